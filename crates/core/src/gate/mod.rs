//! The gates: each is a pure question about one step on fresh facts, in a file of
//! its own: may it start now? To add one (say, "drain before restart"): write its
//! file, and name it in `judge`.

mod agents;
mod backoff;
mod budget;
mod busy;
mod grant;
mod order;
mod pause;
mod power;
mod quorum;
mod space;
pub mod stale;

use trueup_model::step::{Action, Step, Target};

use crate::desired::DesiredUnit;
use crate::observed::SeenUnit;
use crate::round::{Context, Draft, Held, Round};

pub use crate::round::{Hold, Refusal};

/// What a gate may look at.
struct Case<'a> {
    step: &'a Step,
    /// Steps of this round that were let through already.
    ready: &'a [Step],
    /// Every step that was proposed in this round.
    proposed: &'a [Step],
    desired: &'a DesiredUnit,
    seen: &'a SeenUnit,
    context: &'a Context,
}

type Gate = fn(&Case<'_>) -> Option<Hold>;

/// In the order in which a person would want to hear of them.
const GATES: [Gate; 11] = [
    stale::judge,
    pause::judge,
    power::judge,
    grant::judge,
    budget::judge,
    backoff::judge,
    busy::judge,
    space::judge,
    order::judge,
    quorum::judge,
    agents::judge,
];

/// Judge every step of a draft.
pub(crate) fn judge(
    draft: Draft,
    desired: &DesiredUnit,
    seen: &SeenUnit,
    context: &Context,
) -> Round {
    let mut round = Round {
        waits: draft.waits,
        ..Round::default()
    };
    round.waits.sort();
    let proposed = draft.steps;
    for step in &proposed {
        let case = Case {
            step,
            ready: &round.ready,
            proposed: &proposed,
            desired,
            seen,
            context,
        };
        let hold = GATES
            .iter()
            .find_map(|gate| gate(&case))
            .or_else(|| behind(step, &round.held));
        match hold {
            None => round.ready.push(step.clone()),
            Some(hold) => round.held.push(Held {
                step: step.clone(),
                hold,
            }),
        }
    }
    round
}

/// A step that stands on a held one of the same target waits with it: everything on
/// a machine stands on its claim, starting k3s on its binary, a unit on its file.
fn behind(step: &Step, held: &[Held]) -> Option<Hold> {
    held.iter()
        .filter(|other| other.step.target == step.target || stands_on_cluster(step, &other.step))
        .find(|other| match &other.step.action {
            Action::ClaimMachine | Action::ClaimCluster => true,
            Action::InstallK3s { .. } => matches!(step.action, Action::StartK3s { .. }),
            Action::WriteFile { file, .. } => matches!(
                &step.action,
                Action::SetUnit { unit, .. }
                    if file.path == format!("/etc/systemd/system/{unit}")
            ),
            _ => false,
        })
        .map(|other| Hold {
            reason: format!(
                "it stands on \"{} {}\": {}",
                other.step.action.verb(),
                other.step.action.subject(),
                other.hold.reason
            ),
            ..other.hold.clone()
        })
}

fn stands_on_cluster(step: &Step, other: &Step) -> bool {
    matches!(other.action, Action::ClaimCluster)
        && matches!(step.target, Target::Node(_) | Target::Object(..))
}
