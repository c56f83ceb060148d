//! The planner: pure, without clock and I/O. One round says what may start now (the
//! frontier) and what waits, and why; the forecast applies each step's expectation
//! and plans again, to the end.

mod app;
mod by_hand;
mod cluster;
mod expect;
mod forecast;
mod k3s;
mod machine;
mod members;
#[cfg(test)]
mod tests;

use serde::Serialize;
use trueup_model::id::{NodeName, UnitId};
use trueup_model::step::Step;

use crate::desired::DesiredUnit;
use crate::observed::SeenUnit;

pub use crate::round::{Context, Held, Round, Wait, WaitKind};
pub use cluster::taints_after;
pub use forecast::{FORECAST_ROUNDS_MAX, forecast};

/// Plan one round of a unit.
pub fn round(desired: &DesiredUnit, seen: &SeenUnit, context: &Context) -> Round {
    let mut draft = crate::round::Draft::new(&desired.id);
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
    for (name, origin) in &desired.removed {
        draft.wait(
            name.as_str(),
            WaitKind::Report,
            format!("{origin}: its state is removed; trueup leaves it alone from now on and does not take it out of its cluster yet: drain it and delete its Node"),
        );
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
