//! Store: history, journal and outbox of one host. Losing it loses no ability to
//! converge and repeats nothing: what must not be forgotten lies on the targets.
//!
//! Calls are short and synchronous. Times are seconds since 1970.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{CommitId, Digest};
use crate::verdict::Verdict;

/// Why the store cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It cannot be opened or made.
    #[error("cannot open the store {path}: {why}")]
    Open {
        /// The file.
        path: String,
        /// What happened.
        why: String,
    },
    /// A newer trueup wrote it.
    #[error("the store {path} has version {found}, this trueup knows {known}: use the newer one")]
    Newer {
        /// The file.
        path: String,
        /// Its version.
        found: i64,
        /// The highest version that is understood.
        known: i64,
    },
    /// It is damaged. Nothing is lost by moving it away: trueup begins a new epoch.
    #[error("the store {path} is damaged ({why}); move it away and start again")]
    Corrupt {
        /// The file.
        path: String,
        /// What was found.
        why: String,
    },
    /// No space is left for it.
    #[error("no space left for the store {path}")]
    Full {
        /// The file.
        path: String,
    },
    /// It cannot be written.
    #[error("the store {path} cannot be written")]
    ReadOnly {
        /// The file.
        path: String,
    },
    /// Another process holds it for too long.
    #[error("the store {path} is held by another process")]
    Busy {
        /// The file.
        path: String,
    },
    /// A value is larger than what is kept.
    #[error("{what} has {bytes} bytes, the limit is {max}")]
    TooLarge {
        /// What was to be kept.
        what: String,
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Anything else.
    #[error("the store failed to {what}: {why}")]
    Failed {
        /// What was to be done.
        what: &'static str,
        /// What happened.
        why: String,
    },
}

/// A step that begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JournalEntry {
    /// The step's id.
    pub step: String,
    /// Its unit, as `cluster/edge`.
    pub unit: String,
    /// What is done, in a word.
    pub verb: String,
    /// To what.
    pub target: String,
    /// With what.
    pub subject: String,
    /// The commit that it serves; empty for a work tree.
    pub commit: String,
    /// The job on the machine, where there is one.
    pub job: Option<String>,
}

/// A step of the past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalRow {
    /// Its row; grows.
    pub row: i64,
    /// What was begun.
    pub entry: JournalEntry,
    /// When it began.
    pub started_s: i64,
    /// How it ended: word, detail and time. `None`: it runs, or we died meanwhile.
    pub end: Option<JournalEnd>,
}

/// The end of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEnd {
    /// `done`, `failed`, `unknown`, `fenced`.
    pub outcome: String,
    /// Why.
    pub detail: String,
    /// When.
    pub finished_s: i64,
}

/// A verdict that is owed to the forge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owed {
    /// Its place in the order of decisions.
    pub seq: i64,
    /// What is to be said.
    pub verdict: Verdict,
    /// When it was decided.
    pub decided_s: i64,
    /// How often sending it was begun: where more than 0, it may be there already.
    pub tries: u32,
}

/// What an object is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Digest of what was rendered for it.
    pub rendered: Digest,
    /// The baseline, as JSON; at most [`BASELINE_BYTES_MAX`].
    pub baseline: String,
    /// It was made anew by a server dry run, not by an apply.
    pub rebuilt: bool,
}

/// Largest baseline that is kept. An object in etcd has at most 1.5 MiB.
pub const BASELINE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Largest grant, pause or value that is kept.
pub const VALUE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What somebody granted. The rest of it (fields overridden, target ids) is its JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// What it grants: a step's id, or a name like `commit/<sha>`.
    pub id: String,
    /// The unit that it belongs to; empty where it belongs to none.
    pub unit: String,
    /// Everything that planning again must find equal.
    pub json: String,
    /// Who granted it.
    pub author: String,
    /// Why.
    pub reason: String,
    /// When.
    pub granted_s: i64,
    /// When it lapses.
    pub expires_s: i64,
}

/// A pause of a unit or an Application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pause {
    /// `cluster/edge`, `machine/lab`, `application/web`.
    pub target: String,
    /// Why.
    pub reason: String,
    /// Who.
    pub author: String,
    /// Since when.
    pub since_s: i64,
    /// Until when.
    pub until_s: i64,
}

/// The state to which a unit was brought last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settled {
    /// The commit.
    pub commit: CommitId,
    /// Digest of what it desired of the unit.
    pub desired: Digest,
    /// When it was seen to be true.
    pub at_s: i64,
}

/// The store of one host.
pub trait Store: Send + Sync + std::fmt::Debug {
    /// A number that no earlier call on this store gave, also after a crash.
    fn next_number(&self) -> Result<u64, StoreError>;

    /// A step begins: durable when this returns.
    fn step_started(&self, entry: &JournalEntry) -> Result<i64, StoreError>;
    /// A step has ended: `done`, `failed`, `unknown` or `fenced`, and why.
    fn step_ended(&self, row: i64, outcome: &str, detail: &str) -> Result<(), StoreError>;
    /// Steps that began and have no end, the oldest first.
    fn unfinished(&self) -> Result<Vec<JournalRow>, StoreError>;
    /// The newest steps, the newest first; of one unit, where one is named.
    fn history(&self, unit: Option<&str>, limit: u32) -> Result<Vec<JournalRow>, StoreError>;

    /// Puts a verdict into the outbox, unless it is the last one decided for its
    /// commit and context: then nothing is owed anew. An unsent verdict that is not
    /// final gives way to it; final ones are always sent. Returns whether it is owed.
    fn decide(&self, verdict: &Verdict) -> Result<bool, StoreError>;
    /// For each commit and context the oldest verdict that is owed, in order.
    fn owed(&self, limit: u32) -> Result<Vec<Owed>, StoreError>;
    /// Sending begins: durable when this returns.
    fn sending(&self, seq: i64) -> Result<(), StoreError>;
    /// It is on the forge.
    fn sent(&self, seq: i64) -> Result<(), StoreError>;
    /// The forge will never take it.
    fn dropped(&self, seq: i64, why: &str) -> Result<(), StoreError>;
    /// The last verdict decided for a commit and context, sent or not.
    fn decided(&self, commit: &CommitId, context: &str) -> Result<Option<Verdict>, StoreError>;
    /// Commits with a context whose last verdict is not final: they are owed an end.
    fn undecided(&self) -> Result<Vec<Verdict>, StoreError>;

    /// All baselines of a cluster, by the object's key.
    fn baselines(&self, cluster: &str) -> Result<BTreeMap<String, Recorded>, StoreError>;
    /// Records baselines (cluster, object's key, baseline), all or none.
    fn put_baselines(&self, recorded: &[(String, String, Recorded)]) -> Result<(), StoreError>;
    /// Forgets a baseline.
    fn remove_baseline(&self, cluster: &str, object: &str) -> Result<(), StoreError>;

    /// Records a grant; one of the same id gives way to it.
    fn put_grant(&self, grant: &Grant) -> Result<(), StoreError>;
    /// Grants that have not lapsed at this time.
    fn grants(&self, now_s: i64) -> Result<Vec<Grant>, StoreError>;
    /// Takes a grant back. Whether there was one.
    fn remove_grant(&self, id: &str) -> Result<bool, StoreError>;

    /// Records a pause; one of the same target gives way to it.
    fn put_pause(&self, pause: &Pause) -> Result<(), StoreError>;
    /// Pauses that are not over at this time.
    fn pauses(&self, now_s: i64) -> Result<Vec<Pause>, StoreError>;
    /// Ends a pause. Whether there was one.
    fn remove_pause(&self, target: &str) -> Result<bool, StoreError>;

    /// The state to which a unit was brought last.
    fn settled(&self, unit: &str) -> Result<Option<Settled>, StoreError>;
    /// A unit is true to a commit.
    fn put_settled(&self, unit: &str, settled: &Settled) -> Result<(), StoreError>;

    /// The epoch in which this store works on a unit; `None`: it never did.
    fn epoch(&self, unit: &str) -> Result<Option<u64>, StoreError>;
    /// Records an epoch; it never falls.
    fn put_epoch(&self, unit: &str, epoch: u64) -> Result<(), StoreError>;

    /// A value by name: summaries for `status`, the tip seen last.
    fn value(&self, name: &str) -> Result<Option<String>, StoreError>;
    /// Keeps a value; at most [`VALUE_BYTES_MAX`].
    fn put_value(&self, name: &str, value: &str) -> Result<(), StoreError>;
}
