//! What a plan depends on, beside the desired and the seen.

use std::collections::{BTreeMap, BTreeSet};

use trueup_model::id::{Claim, Digest, NodeName};
use trueup_model::kinds::switches::Powers;

/// What a plan depends on, beside the desired and the seen.
#[derive(Debug, Clone)]
pub struct Context {
    /// Who we are on this unit.
    pub claim: Claim,
    /// Take the unit over from another holder (asked for by `claim --take-over`).
    pub take_over: bool,
    /// What the host configuration grants for this unit.
    pub ceiling: Powers,
    /// The commit, for budgets; empty for a work tree.
    pub commit: String,
    /// Steps that somebody granted, by id.
    pub grants: BTreeSet<Digest>,
    /// Steps that a saved plan names; any other one makes the plan stale. `None`: all.
    pub allowed: Option<BTreeSet<Digest>>,
    /// Why the unit is paused, if it is.
    pub paused: Option<String>,
    /// The pause that the cluster itself showed when it was last seen.
    pub paused_on_cluster: Option<String>,
    /// Applications that are paused, and why.
    pub paused_apps: BTreeMap<trueup_model::id::AppName, String>,
    /// Why nothing of this commit may be carried out (a rewound branch …).
    pub held: Option<String>,
    /// Steps that failed and wait before the next try: id → reason with its time.
    pub backoff: BTreeMap<Digest, String>,
    /// This unit was true to exactly this desired state before: what differs now is
    /// drift. Where no record on the target tells drift from a commit, this does.
    pub settled: bool,
    /// Labels that were declared when this unit was last true, by machine: whatever they
    /// are now, somebody changed what was ours. Others are taken over with a grant only.
    pub labels_before: BTreeMap<NodeName, BTreeMap<String, String>>,
    /// Seconds since 1970, for the deletion budget's 24 hours only.
    pub now_s: i64,
}

impl Context {
    /// The cause of a difference that no record on the target explains.
    pub(crate) fn cause(&self) -> trueup_model::step::Cause {
        if self.settled {
            trueup_model::step::Cause::Drift
        } else {
            trueup_model::step::Cause::Commit
        }
    }
}
