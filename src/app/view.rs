//! Views: what commands show. The same values are printed for people and as JSON.

use serde::{Deserialize, Serialize};
use trueup_core::engine::{Judgement, Phase};
use trueup_core::plan::{Held, Round, UnitPlan, Wait, WaitKind};
use trueup_model::id::{CommitId, Digest, UnitId};
use trueup_model::kinds::switches::Powers;
use trueup_model::port::store::Owed;
use trueup_model::step::Step;

/// Version of the plan file's form.
pub const PLAN_VERSION: u32 = 1;

/// A plan of a fleet, as it is printed and saved.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanView {
    /// Form of this document.
    pub version: u32,
    /// The fleet.
    pub fleet: String,
    /// The commit.
    pub commit: CommitId,
    /// Its units.
    pub units: Vec<UnitPlan>,
}

/// What `apply FILE` needs of a saved plan.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SavedPlan {
    /// Form of the document.
    pub version: u32,
    /// The fleet.
    pub fleet: String,
    /// The commit.
    pub commit: CommitId,
    /// Its units, as far as they are needed.
    pub units: Vec<SavedUnit>,
}

/// A unit of a saved plan.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SavedUnit {
    /// The unit.
    pub unit: UnitId,
    /// The frontier.
    pub frontier: SavedRound,
    /// The forecast.
    pub forecast: Vec<Vec<SavedStep>>,
}

/// A round of a saved plan.
#[derive(Debug, Clone, Deserialize)]
pub struct SavedRound {
    /// Steps that could start.
    pub ready: Vec<SavedStep>,
    /// Steps that could not.
    pub held: Vec<SavedHeld>,
}

/// A held step of a saved plan.
#[derive(Debug, Clone, Deserialize)]
pub struct SavedHeld {
    /// The step.
    pub step: SavedStep,
}

/// A step of a saved plan: its id says everything.
#[derive(Debug, Clone, Deserialize)]
pub struct SavedStep {
    /// Its id.
    pub id: Digest,
}

impl SavedPlan {
    /// Ids of all its steps.
    pub fn ids(&self) -> impl Iterator<Item = &Digest> {
        self.units.iter().flat_map(|unit| {
            let held = unit.frontier.held.iter().map(|held| &held.step);
            unit.frontier
                .ready
                .iter()
                .chain(held)
                .chain(unit.forecast.iter().flatten())
                .map(|step| &step.id)
        })
    }
}

/// The state of a fleet.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusView {
    /// The fleet.
    pub fleet: String,
    /// Who converges it.
    pub holder: String,
    /// When this was true (seconds since 1970).
    pub as_of_s: i64,
    /// A loop runs.
    pub running: bool,
    /// The tip that is worked on.
    pub commit: Option<String>,
    /// Why the tip is not carried out.
    pub held: Option<String>,
    /// Errors and warnings of the tip.
    pub findings: Vec<String>,
    /// What each destination of verdicts was not given.
    pub deliveries: Vec<Owed>,
    /// Its units.
    pub units: Vec<UnitStatus>,
}

/// The state of a unit.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnitStatus {
    /// The unit.
    pub unit: String,
    /// True to the commit, waiting, working, or unknown.
    pub state: String,
    /// The cause.
    pub description: String,
    /// When it was last looked at; `None`: never by this loop.
    pub looked_s: Option<i64>,
    /// What the host grants.
    pub host: Option<Switch>,
    /// What the repo grants.
    pub repo: Option<Switch>,
    /// Why it is paused.
    pub paused: Option<String>,
    /// What would be done, or is.
    pub steps: Vec<String>,
    /// What is held, with why and the next command.
    pub held: Vec<String>,
    /// What is waited for.
    pub waits: Vec<String>,
}

/// Powers in a view.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Switch {
    /// May report drift.
    pub report_drift: bool,
    /// May correct drift.
    pub correct_drift: bool,
    /// May roll out commits.
    pub roll_out: bool,
}

impl From<Powers> for Switch {
    fn from(powers: Powers) -> Self {
        Self {
            report_drift: powers.report_drift,
            correct_drift: powers.correct_drift,
            roll_out: powers.roll_out,
        }
    }
}

/// A step in one line.
pub fn step_line(step: &Step) -> String {
    let subject = step.action.subject();
    let what = if subject.is_empty() {
        format!("{} {}", step.action.verb(), step.target)
    } else {
        format!("{} {subject} on {}", step.action.verb(), step.target)
    };
    let at = step
        .why
        .at
        .as_ref()
        .map_or_else(String::new, |at| format!(" [{at}]"));
    format!("{} {what}: {}{at}", step.id.short(), step.why.text)
}

/// A held step in one line.
pub fn held_line(held: &Held) -> String {
    let next = held
        .hold
        .next
        .as_ref()
        .map_or_else(String::new, |next| format!("; next: {next}"));
    format!(
        "{} — {}: {}{next}",
        step_line(&held.step),
        held.hold.gate,
        held.hold.reason
    )
}

/// A wait in one line.
pub fn wait_line(wait: &Wait) -> String {
    let word = match wait.kind {
        WaitKind::Unknown => "unknown",
        WaitKind::Optional => "off",
        WaitKind::Progress => "on its way",
        WaitKind::Broken => "broken",
        WaitKind::Report => "reported",
    };
    format!("{} ({word}): {}", wait.subject, wait.reason)
}

/// State word and cause of a unit.
pub fn state_of(
    round: Option<&Round>,
    phase: &Phase,
    told: Option<&Judgement>,
) -> (String, String) {
    let word = match (round, phase) {
        (None, _) => "unknown",
        (_, Phase::Performing(_)) => "working",
        (Some(round), _) if round.is_settled() => "true",
        (Some(round), _) if round.held.is_empty() => "waiting",
        (Some(_), _) => "differs",
    };
    let description = told.map_or_else(String::new, |judgement| judgement.description.clone());
    (word.to_owned(), description)
}
