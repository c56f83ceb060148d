//! One pass until nothing more can be done: `apply`.

use std::collections::BTreeMap;

use trueup_core::engine::Effect;
use trueup_core::gate::Refusal;
use trueup_core::plan::{Round, WaitKind};
use trueup_model::id::{Digest, UnitId};
use trueup_model::step::Outcome;

use super::clock::now_s;
use super::drive::Report;
use super::result::{ApplyResult, UnitResult};
use super::runtime::Runtime;
use super::view::step_line;

/// A machine that is out of reach is waited for this long, then reported.
const UNREACHABLE_S: i64 = 45;

/// Drive every unit until it is true or nothing moves any more.
pub(crate) async fn apply(
    runtime: &mut Runtime,
    wait_s: i64,
    progress: &dyn Fn(&str),
) -> ApplyResult {
    let ids = runtime.unit_ids();
    let mut open: BTreeMap<UnitId, Open> = BTreeMap::new();
    for (unit, context) in runtime.establish(&ids).await {
        let effects = runtime.engage(&unit, context);
        let mut state = Open::new();
        state.note(&effects);
        open.insert(unit, state);
    }
    let mut finished: BTreeMap<UnitId, Open> = BTreeMap::new();
    while !open.is_empty() {
        let Some(report) = runtime.reports.recv().await else {
            break;
        };
        note_end(&mut open, &report, progress);
        let Some((unit, effects)) = runtime.report(report) else {
            continue;
        };
        let Some(state) = open.get_mut(&unit) else {
            continue;
        };
        state.note(&effects);
        let Some(driven) = runtime.units.get(&unit) else {
            continue;
        };
        let Some(round) = driven.engine.round().filter(|_| driven.engine.is_idle()) else {
            continue;
        };
        if state.is_over(round, wait_s)
            && let Some(state) = open.remove(&unit)
        {
            if round.is_settled() {
                runtime.settle(&unit);
            }
            finished.insert(unit, state);
        }
    }
    ApplyResult {
        units: finished
            .into_iter()
            .map(|(unit, state)| result(runtime, unit, state))
            .collect(),
    }
}

fn result(runtime: &Runtime, unit: UnitId, state: Open) -> UnitResult {
    let round = runtime
        .units
        .get(&unit)
        .and_then(|driven| driven.engine.round().cloned())
        .unwrap_or_default();
    UnitResult {
        unit,
        settled: round.is_settled(),
        steps: state.ended,
        held: round.held,
        waits: round.waits,
    }
}

fn note_end(open: &mut BTreeMap<UnitId, Open>, report: &Report, progress: &dyn Fn(&str)) {
    let Report::Ended(unit, id, outcome) = report else {
        return;
    };
    let Some(state) = open.get_mut(unit) else {
        return;
    };
    let line = state.lines.get(id).cloned().unwrap_or_default();
    let word = match outcome {
        Outcome::Done => "done".to_owned(),
        Outcome::Failed(why) => format!("not done: {why}"),
        Outcome::Unknown(why) => format!("unknown: {why}"),
        Outcome::Fenced(why) => format!("refused: {why}"),
    };
    progress(&format!("{unit}: {line} — {word}"));
    state.ended.push((line, outcome.clone()));
    state.moved_s = now_s();
}

/// A unit that is not over yet.
#[derive(Debug)]
struct Open {
    /// Lines of the steps that were started.
    lines: BTreeMap<Digest, String>,
    /// How they ended.
    ended: Vec<(String, Outcome)>,
    /// When something last moved.
    moved_s: i64,
}

impl Open {
    fn new() -> Self {
        Self {
            lines: BTreeMap::new(),
            ended: Vec::new(),
            moved_s: now_s(),
        }
    }

    fn note(&mut self, effects: &[Effect]) {
        for effect in effects {
            if let Effect::Perform(steps) = effect {
                for step in steps {
                    self.lines.insert(step.id.clone(), step_line(step));
                }
            }
        }
    }

    /// Nothing more will come of waiting.
    fn is_over(&self, round: &Round, wait_s: i64) -> bool {
        if round.is_settled() {
            return true;
        }
        let still = now_s() - self.moved_s;
        let moving = round
            .waits
            .iter()
            .any(|wait| wait.kind == WaitKind::Progress)
            || round
                .held
                .iter()
                .any(|held| held.hold.verdict == Refusal::Wait);
        let dark = round
            .waits
            .iter()
            .any(|wait| wait.kind == WaitKind::Unknown);
        if moving {
            return still >= wait_s;
        }
        !dark || still >= UNREACHABLE_S.min(wait_s)
    }
}
