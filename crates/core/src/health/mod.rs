//! Health of live objects (kstatus rules).

/// How a live object is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// As its controller wants it.
    Current,
    /// On its way.
    InProgress(String),
    /// It will not get there by itself.
    Failed(String),
    /// It is being deleted.
    Terminating,
    /// Not known.
    Unknown(String),
}
