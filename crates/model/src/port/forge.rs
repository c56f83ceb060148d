//! Forge: where verdicts are read by people.

use async_trait::async_trait;

use crate::id::CommitId;
use crate::verdict::Verdict;

/// Why a verdict could not be delivered. The texts are shown in `status`; none of
/// them holds a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForgeError {
    /// It may work later: no answer, or one that speaks of trouble on the other side.
    #[error("the forge is not available: {0}")]
    Later(String),
    /// The forge asks to be left alone for a while.
    #[error("the forge asks to wait {wait_s} s: {why}")]
    Busy {
        /// What it said.
        why: String,
        /// Seconds until it may be asked again.
        wait_s: u64,
    },
    /// Nothing is taken until a person changes something: a token, a name, a URL.
    #[error("{0}")]
    Denied(String),
    /// The forge has no such commit, or not yet.
    #[error("the forge does not know the commit: {0}")]
    UnknownCommit(String),
    /// It will never take this verdict: it is dropped with a warning.
    #[error("the forge refuses the verdict: {0}")]
    Refused(String),
}

/// A place for verdicts. Delivery is at least once, in order per context; the
/// outbox reads the newest before it repeats. Every call ends within a deadline of
/// the implementation's own.
#[async_trait]
pub trait Forge: Send + Sync + std::fmt::Debug {
    /// The newest verdict of a context on a commit.
    async fn newest(&self, commit: &CommitId, context: &str)
    -> Result<Option<Verdict>, ForgeError>;
    /// Add a verdict.
    async fn publish(&self, verdict: &Verdict) -> Result<(), ForgeError>;
    /// The verdict as [`Forge::newest`] gives it back: some forges trim and shorten.
    fn as_shown(&self, verdict: &Verdict) -> Verdict {
        verdict.clone()
    }
}
