//! Forge: where verdicts are read by people.

use async_trait::async_trait;

use crate::id::CommitId;
use crate::verdict::Verdict;

/// Why a verdict could not be delivered.
#[derive(Debug, thiserror::Error)]
pub enum ForgeError {
    /// It may work later.
    #[error("the forge is not available: {0}")]
    Later(String),
    /// It will never work as it is: the verdict is dropped with a warning.
    #[error("the forge refuses the verdict: {0}")]
    Refused(String),
}

/// A place for verdicts. Delivery is at least once, in order per context; the
/// outbox reads the newest before it repeats.
#[async_trait]
pub trait Forge: Send + Sync + std::fmt::Debug {
    /// The newest verdict of a context on a commit.
    async fn newest(&self, commit: &CommitId, context: &str)
    -> Result<Option<Verdict>, ForgeError>;
    /// Add a verdict.
    async fn publish(&self, verdict: &Verdict) -> Result<(), ForgeError>;
}
