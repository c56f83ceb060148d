//! Store: what trueup remembers on its own host: history, journal and outbox.
//!
//! Ownership, epochs and done operations live on the targets. Losing the store
//! therefore loses no ability to converge and repeats nothing; it loses history,
//! baselines (rebuilt by a server dry run), grants and pauses.
//!
//! **No secret may be given to it.** It is the caller's duty: leaves of a Secret
//! go into a baseline as keyed HMACs, and texts of errors are cleaned before.

mod error;
mod records;

use std::fmt::Debug;

use crate::id::{ClusterName, CommitId, FleetName, UnitId};
use crate::step::Outcome;
use crate::verdict::Verdict;

pub use error::StoreError;
pub use records::{
    CommitSeen, DeliveryRecord, DeliveryState, Grant, JournalEntry, JournalRecord, Outgoing, Owed,
    Pause, Recorded, Settled, VerdictRecord,
};

/// Longest text of one field, in bytes; longer ones are refused, except reasons
/// and outcomes, which are cut to [`WHY_CHARS_MAX`]. An object of the Kubernetes
/// API is at most 1.5 MiB (etcd's request limit), and a baseline is part of one.
pub const TEXT_BYTES_MAX: usize = 3 * 1024 * 1024;

/// Longest reason or outcome that is kept, in characters.
pub const WHY_CHARS_MAX: usize = 2000;

/// The memory of one host. Calls are short and block on a local disk (a commit is
/// on the disk when a writing call returns): from async code, use a blocking thread
/// where a latency of a few tens of milliseconds matters. Times are Unix seconds.
pub trait Store: Send + Sync + Debug {
    /// The next number of a counter that never repeats one, from 1.
    fn next_number(&self) -> Result<u64, StoreError>;

    /// A value by key.
    fn get(&self, key: &str) -> Result<Option<String>, StoreError>;
    /// Set a value.
    fn put(&self, key: &str, value: &str) -> Result<(), StoreError>;
    /// Keys that begin with `prefix`, sorted, with their values.
    fn list(&self, prefix: &str) -> Result<Vec<(String, String)>, StoreError>;
    /// Forget a key; true if it was there.
    fn remove(&self, key: &str) -> Result<bool, StoreError>;

    /// The epoch under which this host last claimed a unit.
    fn epoch(&self, unit: &UnitId) -> Result<Option<u64>, StoreError>;
    /// Remember an epoch; a lower one than the recorded is ignored. The recorded
    /// one is returned.
    fn set_epoch(&self, unit: &UnitId, epoch: u64) -> Result<u64, StoreError>;

    /// What a unit last became true to.
    fn settled(&self, unit: &UnitId) -> Result<Option<Settled>, StoreError>;
    /// Remember what a unit became true to.
    fn set_settled(&self, unit: &UnitId, settled: &Settled) -> Result<(), StoreError>;

    /// What was recorded when an object was last applied.
    fn baseline(&self, cluster: &ClusterName, object: &str)
    -> Result<Option<Recorded>, StoreError>;
    /// All of a cluster, sorted by key, in one query.
    fn baselines(&self, cluster: &ClusterName) -> Result<Vec<(String, Recorded)>, StoreError>;
    /// Record baselines: all of them or none.
    fn put_baselines(&self, records: &[(ClusterName, String, Recorded)]) -> Result<(), StoreError>;
    /// Forget the baseline of an object that is gone; true if there was one.
    fn remove_baseline(&self, cluster: &ClusterName, object: &str) -> Result<bool, StoreError>;

    /// Write down that a step begins, before it does. The row's number.
    fn step_started(&self, entry: &JournalEntry, at_s: u64) -> Result<i64, StoreError>;
    /// Write down how it ended. A row that has ended already keeps its end.
    fn step_ended(&self, row: i64, outcome: &Outcome, at_s: u64) -> Result<(), StoreError>;
    /// Steps that began and whose end was never written, oldest first.
    fn unfinished(&self) -> Result<Vec<JournalRecord>, StoreError>;
    /// After a start: the outcome of all unfinished steps is unknown. Their number.
    /// Read [`Store::unfinished`] first, to find their jobs again.
    fn abandon_unfinished(&self, why: &str, at_s: u64) -> Result<usize, StoreError>;
    /// The newest rows first.
    fn history(&self, limit: u32) -> Result<Vec<JournalRecord>, StoreError>;

    /// Where verdicts are delivered to from now on; until it is said, to `notes` alone.
    /// A new destination is owed the newest word of every context of the commit that
    /// was last spoken of; what one that is gone was owed is dropped.
    fn set_destinations(&self, names: &[String], at_s: u64) -> Result<(), StoreError>;
    /// Decide a verdict: into the outbox of every destination, and durable when this
    /// returns. False if the newest of its commit and context says the same already.
    /// An older `pending` of the same commit and context that was not delivered yet
    /// is passed over; a final state never is.
    fn decide(&self, verdict: &Verdict, at_s: u64) -> Result<bool, StoreError>;
    /// The next verdict to deliver to a destination, and the record of an attempt in
    /// the same transaction: `attempts` counts those before this one, so anything but
    /// 0 means that it may have arrived already (ask the forge before repeating).
    /// A verdict whose predecessor of the same commit and context is not
    /// delivered yet, or whose time has not come, is not offered.
    fn next_unsent(&self, destination: &str, now_s: u64) -> Result<Option<Outgoing>, StoreError>;
    /// When the next verdict is due at a destination, of those not delivered.
    fn next_due_s(&self, destination: &str) -> Result<Option<u64>, StoreError>;
    /// What is owed to each destination, by name.
    fn owed(&self) -> Result<Vec<Owed>, StoreError>;
    /// It arrived.
    fn mark_sent(&self, destination: &str, seq: i64, at_s: u64) -> Result<(), StoreError>;
    /// It did not arrive, or nobody knows: again at `retry_at_s`.
    fn mark_failed(
        &self,
        destination: &str,
        seq: i64,
        why: &str,
        retry_at_s: u64,
    ) -> Result<(), StoreError>;
    /// The forge will never take it: not offered again.
    fn mark_refused(
        &self,
        destination: &str,
        seq: i64,
        why: &str,
        at_s: u64,
    ) -> Result<(), StoreError>;
    /// The last decided verdict of a context on a commit.
    fn newest(&self, commit: &CommitId, context: &str)
    -> Result<Option<VerdictRecord>, StoreError>;
    /// The last decided verdict of every context on a commit, by context.
    fn verdicts_of(&self, commit: &CommitId) -> Result<Vec<VerdictRecord>, StoreError>;

    /// Keep a grant; one of the same id is replaced.
    fn grant(&self, grant: &Grant) -> Result<(), StoreError>;
    /// Grants that have not expired, by id.
    fn grants(&self, now_s: u64) -> Result<Vec<Grant>, StoreError>;
    /// Take a grant back; true if there was one.
    fn revoke(&self, id: &str) -> Result<bool, StoreError>;

    /// Keep a pause; one of the same target is replaced.
    fn pause(&self, pause: &Pause) -> Result<(), StoreError>;
    /// Pauses that hold now, by target.
    fn pauses(&self, now_s: u64) -> Result<Vec<Pause>, StoreError>;
    /// End a pause; true if there was one.
    fn resume(&self, target: &str) -> Result<bool, StoreError>;

    /// Note a commit as the tip of a fleet's branch; the tip that is known
    /// already is not noted again (false).
    fn commit_seen(
        &self,
        fleet: &FleetName,
        commit: &CommitId,
        at_s: u64,
    ) -> Result<bool, StoreError>;
    /// The last noted tip.
    fn last_commit(&self, fleet: &FleetName) -> Result<Option<CommitSeen>, StoreError>;
    /// Noted tips, the newest first: earlier ones are superseded.
    fn commits(&self, fleet: &FleetName, limit: u32) -> Result<Vec<CommitSeen>, StoreError>;
}
