//! One round of planning, as values: what it depends on, what is proposed, what may
//! start and what waits. The planner proposes, the gates judge, both speak in these.

mod context;
mod draft;
mod hold;

use serde::Serialize;
use trueup_model::step::Step;

pub use context::Context;
pub(crate) use draft::{Draft, Proposal};
pub use hold::{Hold, Refusal};

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
