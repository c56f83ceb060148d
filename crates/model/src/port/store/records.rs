//! What the store keeps.

use serde::{Deserialize, Serialize};

use crate::id::{CommitId, Digest, UnitId};
use crate::step::{Outcome, Step};
use crate::verdict::Verdict;

/// What a unit became true to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settled {
    /// The commit.
    pub commit: CommitId,
    /// Digest of its desired state.
    pub digest: Digest,
    /// When.
    pub at_s: u64,
}

/// What was recorded when an object was last applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recorded {
    /// Digest of what was sent.
    pub rendered: Digest,
    /// The API server's answer reduced to the fields that were sent, as JSON;
    /// leaves of a Secret as keyed HMACs.
    pub baseline: String,
    /// It was lost and made again by a server dry run.
    pub rebuilt: bool,
}

/// A step that begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JournalEntry {
    /// Its id.
    pub step: Digest,
    /// Its unit.
    pub unit: UnitId,
    /// What is done, in a word.
    pub verb: String,
    /// What it acts on.
    pub target: String,
    /// A path, a unit, a release.
    pub subject: String,
    /// The commit that it converges to.
    pub commit: CommitId,
    /// Id of the job on the machine, where there is one.
    pub job: Option<String>,
}

impl JournalEntry {
    /// The entry of a step.
    pub fn of(step: &Step, commit: &CommitId, job: Option<String>) -> Self {
        Self {
            step: step.id.clone(),
            unit: step.unit.clone(),
            verb: step.action.verb().to_owned(),
            target: step.target.to_string(),
            subject: step.action.subject(),
            commit: commit.clone(),
            job,
        }
    }
}

/// A row of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JournalRecord {
    /// Its number.
    pub row: i64,
    /// The step.
    pub entry: JournalEntry,
    /// When it began.
    pub started_s: u64,
    /// When and how it ended.
    pub end: Option<(u64, Outcome)>,
}

/// How far the delivery of a verdict is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DeliveryState {
    /// Not delivered yet.
    Queued,
    /// It arrived.
    Sent,
    /// The forge will never take it.
    Refused,
    /// A later word of the same context overtook it before it was sent.
    PassedOver,
}

/// A verdict to deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Its number in the outbox.
    pub seq: i64,
    /// The verdict.
    pub verdict: Verdict,
    /// When it was decided.
    pub decided_s: u64,
    /// Attempts before this one; anything but 0 means that it may have arrived.
    pub attempts: u32,
}

/// How far a verdict is on its way to one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryRecord {
    /// The destination.
    pub destination: String,
    /// How far it is.
    pub state: DeliveryState,
    /// Attempts so far.
    pub attempts: u32,
    /// Why the last attempt failed; empty if none did.
    pub why: String,
}

/// A decided verdict and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VerdictRecord {
    /// Its number in the outbox.
    pub seq: i64,
    /// The verdict.
    pub verdict: Verdict,
    /// When it was decided.
    pub decided_s: u64,
    /// Its deliveries, by destination.
    pub deliveries: Vec<DeliveryRecord>,
}

/// What one destination has not been given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owed {
    /// The destination.
    pub destination: String,
    /// Verdicts that wait.
    pub waiting: u64,
    /// Why the last attempt failed; empty: it did not.
    pub why: String,
    /// Of the commit that was last spoken of: contexts whose newest word it refused.
    pub refused: u64,
    /// Why it refused the last of them.
    pub refused_why: String,
}

/// Something that a person allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// Id: of the step, or the commit.
    pub id: String,
    /// What exactly is granted, as JSON: step, commit, facts overridden.
    pub what: String,
    /// Who.
    pub author: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at_s: u64,
    /// Until when.
    pub expires_s: u64,
}

/// A unit or Application that is to be left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pause {
    /// The unit, or `app/NAME`.
    pub target: String,
    /// Why.
    pub reason: String,
    /// Who.
    pub author: String,
    /// When.
    pub at_s: u64,
    /// Until when; `None`: until somebody ends it.
    pub until_s: Option<u64>,
}

/// A commit that was the tip of a branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommitSeen {
    /// The commit.
    pub commit: CommitId,
    /// When it was first seen.
    pub at_s: u64,
}
