//! What an `apply` came to.

use serde::Serialize;
use trueup_core::gate::{Refusal, stale};
use trueup_core::plan::{Held, Wait, WaitKind};
use trueup_model::id::UnitId;
use trueup_model::step::Outcome;

use super::view::{held_line, wait_line};
use crate::cli::exit::Exit;

/// What became of every step, by unit.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplyResult {
    /// The units.
    pub units: Vec<UnitResult>,
}

/// What became of a unit.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnitResult {
    /// The unit.
    pub unit: UnitId,
    /// It is true to the commit.
    pub settled: bool,
    /// Steps in the order of their ends: a line, and how it ended.
    pub steps: Vec<(String, Outcome)>,
    /// What did not start.
    pub held: Vec<Held>,
    /// What is waited for.
    pub waits: Vec<Wait>,
}

impl ApplyResult {
    /// How the program ends.
    pub fn exit(&self) -> Exit {
        let held = || self.units.iter().flat_map(|unit| &unit.held);
        let waits = || self.units.iter().flat_map(|unit| &unit.waits);
        if self.units.iter().all(|unit| unit.settled) {
            return Exit::Done;
        }
        if waits().any(|wait| wait.reason.contains("which is not pinned")) {
            return Exit::HostKey;
        }
        if held().any(|held| held.hold.gate == stale::NAME) {
            return Exit::Stale;
        }
        let failed = self
            .units
            .iter()
            .flat_map(|unit| &unit.steps)
            .any(|(_, outcome)| *outcome != Outcome::Done);
        let unknown =
            waits().any(|wait| wait.kind != WaitKind::Optional && wait.kind != WaitKind::Report);
        let refused = held().any(|held| held.hold.verdict == Refusal::Refuse);
        if refused && !unknown {
            return Exit::Blocked;
        }
        if failed || unknown || held().next().is_some() {
            return Exit::Partial;
        }
        Exit::Done
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for unit in &self.units {
            let done = unit
                .steps
                .iter()
                .filter(|(_, outcome)| *outcome == Outcome::Done)
                .count();
            let word = if unit.settled { "true" } else { "not true yet" };
            out.push_str(&format!("{}: {word}; {done} steps done\n", unit.unit));
            for (line, outcome) in &unit.steps {
                match outcome {
                    Outcome::Done => {}
                    Outcome::Failed(why) => out.push_str(&format!("  not done: {line}: {why}\n")),
                    Outcome::Unknown(why) => out.push_str(&format!("  unknown: {line}: {why}\n")),
                    Outcome::Fenced(why) => out.push_str(&format!("  refused: {line}: {why}\n")),
                }
            }
            for held in &unit.held {
                out.push_str(&format!("  held: {}\n", held_line(held)));
            }
            for wait in &unit.waits {
                out.push_str(&format!("  wait: {}\n", wait_line(wait)));
            }
        }
        if self.exit() == Exit::HostKey {
            // It shows the pinned key beside the shown one, and what to type.
            out.push_str("  next: trueup doctor\n");
        }
        out
    }

    /// For programs.
    pub fn json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}
