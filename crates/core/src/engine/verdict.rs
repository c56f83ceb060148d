//! What a unit's state says of the commit.

use serde::Serialize;
use trueup_model::verdict::VerdictState;

use super::Retries;
use crate::desired::DesiredUnit;
use crate::gate::Refusal;
use crate::plan::{Held, Round, Wait, WaitKind};

/// A word on a commit, before it has a context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Judgement {
    /// The state.
    pub state: VerdictState,
    /// The cause first.
    pub description: String,
}

impl Judgement {
    fn new(state: VerdictState, description: impl Into<String>) -> Self {
        Self {
            state,
            description: description.into(),
        }
    }
}

/// After so many failures of one step the commit is not waited for any longer.
const TRIES_MAX: u32 = 5;

/// What a round says of the commit. `late`: the deadline has passed.
pub fn judge(desired: &DesiredUnit, round: &Round, retries: &Retries, late: bool) -> Judgement {
    if round.is_settled() {
        return Judgement::new(VerdictState::Success, success(desired));
    }
    if !round.ready.is_empty() {
        let next = round.ready.first().map_or_else(String::new, |step| {
            format!(
                ": {} {} on {}",
                step.action.verb(),
                step.action.subject(),
                step.target
            )
        });
        return Judgement::new(
            VerdictState::Pending,
            format!("{} steps run{next}", round.ready.len()),
        );
    }
    if let Some((failed, why)) = given_up(round, retries) {
        return Judgement::new(VerdictState::Failure, format!("{failed}: {why}"));
    }
    if let Some(held) = needs_somebody(round) {
        let count = refused(round).count();
        return Judgement::new(
            if late && held.hold.gate != "power" && held.hold.gate != "pause" {
                VerdictState::Failure
            } else {
                VerdictState::Pending
            },
            format!("{}; {count} changes wait", held.hold.reason),
        );
    }
    if round.held.is_empty()
        && let Some(wait) = only_broken(round)
    {
        return Judgement::new(
            VerdictState::Failure,
            format!("{}: {}", wait.subject, wait.reason),
        );
    }
    let what = waiting(round);
    if late {
        return Judgement::new(VerdictState::Failure, what);
    }
    Judgement::new(VerdictState::Pending, what)
}

fn success(desired: &DesiredUnit) -> String {
    let machines = desired.machines.len();
    let objects: usize = desired.apps.values().map(|app| app.objects.len()).sum();
    match (machines, objects) {
        (1, 0) => "true: 1 machine".to_owned(),
        (machines, 0) => format!("true: {machines} machines"),
        (machines, objects) => format!("true: {machines} machines, {objects} objects"),
    }
}

fn given_up(round: &Round, retries: &Retries) -> Option<(String, String)> {
    round.held.iter().find_map(|held| {
        let (count, why) = retries.of(&held.step.id)?;
        (count >= TRIES_MAX).then(|| {
            let what = format!(
                "{} {} on {} failed {count} times",
                held.step.action.verb(),
                held.step.action.subject(),
                held.step.target
            );
            (what, why.to_owned())
        })
    })
}

fn refused(round: &Round) -> impl Iterator<Item = &Held> {
    round
        .held
        .iter()
        .filter(|held| held.hold.verdict == Refusal::Refuse)
}

fn needs_somebody(round: &Round) -> Option<&Held> {
    let moving = round
        .waits
        .iter()
        .any(|wait| wait.kind == WaitKind::Progress);
    if moving { None } else { refused(round).next() }
}

/// Something is broken, and nothing else is on its way.
fn only_broken(round: &Round) -> Option<&Wait> {
    let moving = round
        .waits
        .iter()
        .any(|wait| matches!(wait.kind, WaitKind::Progress | WaitKind::Unknown));
    if moving {
        return None;
    }
    round
        .waits
        .iter()
        .find(|wait| wait.kind == WaitKind::Broken)
}

/// What is waited for, the worst first. A step that waits for something outside (room,
/// quorum, another person) is the cause; what is on its way only follows from it.
fn waiting(round: &Round) -> String {
    let of = |kind| {
        let mut waits = round.waits.iter();
        let wait = waits.find(|wait: &&Wait| wait.kind == kind)?;
        Some(format!("{}: {}", wait.subject, wait.reason))
    };
    let cause = round
        .held
        .iter()
        .find(|held| held.hold.verdict == Refusal::Wait && held.hold.gate != "order");
    of(WaitKind::Unknown)
        .or_else(|| of(WaitKind::Broken))
        .or_else(|| cause.map(waits))
        .or_else(|| of(WaitKind::Progress))
        .or_else(|| round.held.first().map(waits))
        .unwrap_or_else(|| "waiting".to_owned())
}

fn waits(held: &Held) -> String {
    format!(
        "{} {} on {} waits: {}",
        held.step.action.verb(),
        held.step.action.subject(),
        held.step.target,
        held.hold.reason
    )
}
