//! The planner: pure, without clock and I/O. One round says what may start now (the
//! frontier) and what waits, and why; the forecast applies each step's expectation
//! and plans again, to the end.

mod app;
mod cluster;
mod draft;
mod expect;
mod forecast;
mod k3s;
mod machine;
mod members;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use trueup_model::id::{Claim, Digest, NodeName, UnitId};
use trueup_model::kinds::switches::Powers;
use trueup_model::step::Step;

use crate::desired::DesiredUnit;
use crate::gate::Hold;
use crate::observed::SeenUnit;

pub use cluster::taints_after;
pub(crate) use draft::Draft;
pub use forecast::{FORECAST_ROUNDS_MAX, forecast};
pub use machine::SYSCTL_PATH;
pub(crate) use members::facts as machine_facts;

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
    /// Applications that are paused, and why.
    pub paused_apps: BTreeMap<trueup_model::id::AppName, String>,
    /// Why nothing of this commit may be carried out (a rewound branch …).
    pub held: Option<String>,
    /// Steps that failed and wait before the next try: id → reason with its time.
    pub backoff: BTreeMap<Digest, String>,
    /// This unit was true to exactly this desired state before: what differs now is
    /// drift. Where no record on the target tells drift from a commit, this does.
    pub settled: bool,
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

/// One round of planning for a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Round {
    /// Steps that may start now. Steps of one machine are done in this order;
    /// different machines go at the same time.
    pub ready: Vec<Step>,
    /// Steps that may not, and why.
    pub held: Vec<Held>,
    /// What could not be looked at, or waits without being a step.
    pub waits: Vec<Wait>,
}

/// A step that may not start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// The step.
    pub step: Step,
    /// What holds it.
    pub hold: Hold,
}

/// Something that is not true yet and that no step of ours can change now.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Wait {
    /// What is waited for: a machine, an object, a part of the cluster.
    pub subject: String,
    /// Why.
    pub reason: String,
    /// The kind of wait decides what a verdict says of it.
    pub kind: WaitKind,
}

/// Kinds of waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum WaitKind {
    /// It could not be looked at.
    Unknown,
    /// An optional machine is off: a verdict takes no notice.
    Optional,
    /// It is on its way (a Deployment rolls out, a Node becomes Ready).
    Progress,
    /// It will not become true by waiting (a refused manifest, a failed Job).
    Broken,
    /// It differs, and trueup reports it only (`config.yaml.d` overrides a key).
    Report,
}

impl Round {
    /// Nothing to do and nothing to wait for.
    pub fn is_settled(&self) -> bool {
        self.ready.is_empty()
            && self.held.is_empty()
            && self
                .waits
                .iter()
                .all(|wait| matches!(wait.kind, WaitKind::Optional | WaitKind::Report))
    }
}

/// Plan one round of a unit.
pub fn round(desired: &DesiredUnit, seen: &SeenUnit, context: &Context) -> Round {
    let mut draft = draft::Draft::new(&desired.id);
    for machine in desired.machines.values() {
        match seen.machines.get(&machine.name) {
            Some(trueup_model::facts::Known::Known(facts)) => {
                machine::plan(&mut draft, machine, facts, context);
            }
            Some(trueup_model::facts::Known::Unknown(why)) => {
                draft.unseen(machine, why);
            }
            None => draft.unseen(machine, "it was not looked at"),
        }
    }
    if desired.cluster.is_some() {
        members::plan(&mut draft, desired, seen, context);
        cluster::plan(&mut draft, desired, seen, context);
        app::plan(&mut draft, desired, seen, context);
    }
    crate::gate::judge(draft, desired, seen, context)
}

/// A unit's plan: what may start now, and how it goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnitPlan {
    /// The unit.
    pub unit: UnitId,
    /// The first round.
    pub frontier: Round,
    /// The rounds after it, each with the steps that may start then.
    pub forecast: Vec<Vec<Step>>,
    /// What still waits when nothing more can start.
    pub left: Vec<Held>,
    /// Waits at the end of the forecast.
    pub waits: Vec<Wait>,
}

impl UnitPlan {
    /// All steps, frontier first, in waves.
    pub fn waves(&self) -> impl Iterator<Item = &[Step]> {
        std::iter::once(self.frontier.ready.as_slice())
            .chain(self.forecast.iter().map(Vec::as_slice))
            .filter(|wave| !wave.is_empty())
    }

    /// Steps that will run if nothing disturbs.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.waves().flatten()
    }

    /// Nothing would run and nothing waits.
    pub fn is_empty(&self) -> bool {
        self.steps().next().is_none() && self.left.is_empty()
    }
}

/// Machines of a set, for messages.
pub(crate) fn names<'a>(list: impl IntoIterator<Item = &'a NodeName>) -> String {
    let names: Vec<&str> = list.into_iter().map(NodeName::as_str).collect();
    names.join(", ")
}
