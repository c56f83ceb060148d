//! A draft: proposed steps before the gates have judged them.

use trueup_model::id::UnitId;
use trueup_model::step::{Action, Cause, Disruption, Step, Target, Why};

use super::{Wait, WaitKind};
use crate::desired::DesiredMachine;
use trueup_model::origin::Origin;

/// Proposed steps and waits of one round.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) unit: UnitId,
    pub(crate) steps: Vec<Step>,
    pub(crate) waits: Vec<Wait>,
}

impl Draft {
    pub(crate) fn new(unit: &UnitId) -> Self {
        Self {
            unit: unit.clone(),
            steps: Vec::new(),
            waits: Vec::new(),
        }
    }

    /// Propose a step.
    pub(crate) fn step(&mut self, target: Target, action: Action, proposal: Proposal<'_>) {
        let Proposal {
            desired,
            class,
            cause,
            confirm,
            at,
            why,
        } = proposal;
        let why = Why {
            at: at.cloned(),
            text: why,
        };
        let mut step = Step::new(&self.unit, target, action, desired, class, cause, why);
        step.confirm = confirm;
        self.steps.push(step);
    }

    pub(crate) fn wait(
        &mut self,
        subject: impl Into<String>,
        kind: WaitKind,
        reason: impl Into<String>,
    ) {
        self.waits.push(Wait {
            subject: subject.into(),
            reason: reason.into(),
            kind,
        });
    }

    /// A machine that could not be looked at.
    pub(crate) fn unseen(&mut self, machine: &DesiredMachine, why: &str) {
        let kind = if machine.optional {
            WaitKind::Optional
        } else {
            WaitKind::Unknown
        };
        self.wait(machine.name.as_str(), kind, why);
    }
}

/// The parts of a step beside target and action.
#[derive(Debug)]
pub(crate) struct Proposal<'a> {
    /// What is to be true afterwards, as text: it goes into the step's id.
    pub(crate) desired: &'a str,
    pub(crate) class: Disruption,
    pub(crate) cause: Cause,
    /// It needs a grant that names it.
    pub(crate) confirm: bool,
    pub(crate) at: Option<&'a Origin>,
    pub(crate) why: String,
}
