//! Why the store did not answer; every message says what to do.

/// Why the store did not answer. A writing call that failed had no effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the database.
    #[error(
        "{what}: the store {path} is locked by another process; \
         end it, or wait and try again"
    )]
    Busy {
        /// What was asked.
        what: &'static str,
        /// The database.
        path: String,
    },
    /// No space left.
    #[error("{what}: no space left for the store {path}; free space on its file system")]
    Full {
        /// What was asked.
        what: &'static str,
        /// The database.
        path: String,
    },
    /// It may not be written.
    #[error(
        "{what}: the store {path} cannot be written; \
         mount its file system writable and let the user of trueup own it"
    )]
    ReadOnly {
        /// What was asked.
        what: &'static str,
        /// The database.
        path: String,
    },
    /// Its content is not what trueup wrote.
    #[error(
        "{what}: the store {path} is damaged: {why}; \
         move it away: trueup converges without it, history and pauses are lost"
    )]
    Corrupt {
        /// What was asked.
        what: &'static str,
        /// The database.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// A newer trueup wrote it.
    #[error(
        "the store {path} has format {found} and this trueup knows {known}; \
         use the trueup that wrote it, or a newer one"
    )]
    Newer {
        /// The database.
        path: String,
        /// Format of the file.
        found: i64,
        /// Newest format that is known here.
        known: i64,
    },
    /// There is no database yet.
    #[error("there is no store at {path}; `trueup run` or `trueup apply` makes it")]
    Missing {
        /// The database.
        path: String,
    },
    /// A field is longer than any honest one.
    #[error("{what}: {bytes} bytes are more than the {max} that the store takes")]
    TooLarge {
        /// What was asked.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Anything else: a disk error, a directory that is gone.
    #[error("{what}: the store {path} does not answer: {why}; look at its disk")]
    Unavailable {
        /// What was asked.
        what: &'static str,
        /// The database.
        path: String,
        /// What happened.
        why: String,
    },
}

impl StoreError {
    /// It may work a moment later, without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Busy { .. })
    }
}
