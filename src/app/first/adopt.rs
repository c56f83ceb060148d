//! `adopt`: what lives already is taken over unchanged. Only ownership records are
//! written here; every other step of the plan is left to `apply`, and what differs is
//! shown and left alone until somebody grants exactly that.

use std::collections::BTreeSet;

use serde::Serialize;
use similar::TextDiff;
use trueup_core::plan::{Held, UnitPlan};
use trueup_model::facts::Known;
use trueup_model::facts::machine::FileFact;
use trueup_model::id::{Digest, UnitId};
use trueup_model::step::{Action, Content, FileSpec, Outcome, Step, Target};

use crate::app::office::Office;
use crate::app::result::UnitResult;
use crate::app::view::step_line;
use crate::cli::Failure;

/// Rounds of taking over: a machine, then what stands on it, then what stands on that.
const ROUNDS_MAX: usize = 4;
/// Nothing here waits for anything slow.
const WAIT_S: i64 = 60;
/// A diff that is longer is read on the machine itself.
const DIFF_LINES_MAX: usize = 200;
/// A grant that was asked for a moment ago is used at once.
const GRANT_S: u64 = 600;

/// What adoption would do to one unit.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UnitAdoption {
    /// The unit.
    pub(crate) unit: UnitId,
    /// Steps that write ownership records and nothing else.
    pub(crate) take: Vec<Taken>,
    /// What is there with other content.
    pub(crate) conflicts: Vec<Conflict>,
    /// Steps of the plan that adoption leaves to `apply`.
    pub(crate) later: usize,
    /// What was not seen, and why.
    pub(crate) waits: Vec<String>,
}

/// A step that writes ownership records only.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Taken {
    /// Its id.
    pub(crate) id: Digest,
    /// In a line.
    pub(crate) line: String,
    #[serde(skip)]
    confirm: bool,
}

/// Something with other content than the declared one.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Conflict {
    /// What, and on what.
    pub(crate) what: String,
    /// The step that would overwrite it, once the rest is adopted.
    pub(crate) step: Option<Digest>,
    /// How it differs.
    pub(crate) diff: String,
}

impl UnitAdoption {
    /// There is nothing to take over and nothing in the way.
    pub(crate) fn is_empty(&self) -> bool {
        self.take.is_empty() && self.conflicts.is_empty()
    }
}

/// What adoption would do, on fresh looks.
pub(crate) async fn list(
    office: &mut Office,
    units: &[String],
) -> Result<Vec<UnitAdoption>, Failure> {
    let view = office.plan(None, units).await?;
    Ok(view
        .units
        .iter()
        .map(|plan| of_unit(office, plan))
        .collect())
}

fn of_unit(office: &Office, plan: &UnitPlan) -> UnitAdoption {
    let mut steps: Vec<&Step> = Vec::new();
    let held = plan.frontier.held.iter().chain(&plan.left);
    for step in plan.steps().chain(held.map(|held| &held.step)) {
        if !steps.iter().any(|known| known.id == step.id) {
            steps.push(step);
        }
    }
    let take: Vec<Taken> = steps
        .iter()
        .filter(|step| is_record_only(step, &steps))
        .map(|step| Taken {
            id: step.id.clone(),
            line: step_line(step),
            confirm: step.confirm,
        })
        .collect();
    let mut conflicts = file_conflicts(office, plan, &steps);
    conflicts.extend(steps.iter().filter_map(|step| object_conflict(step)));
    let touched = take.len()
        + conflicts
            .iter()
            .filter(|conflict| conflict.step.is_some())
            .count();
    UnitAdoption {
        unit: plan.unit.clone(),
        later: steps.len().saturating_sub(touched),
        take,
        waits: plan
            .waits
            .iter()
            .filter(|wait| {
                conflicts
                    .iter()
                    .all(|conflict| conflict.what != wait.subject)
            })
            .map(crate::app::view::wait_line)
            .collect(),
        conflicts,
    }
}

/// Steps that change nothing but the record of who owns what. A blank machine is not
/// adopted: it is claimed only where something on it is.
fn is_record_only(step: &Step, all: &[&Step]) -> bool {
    match &step.action {
        Action::AdoptMachine { .. } | Action::AdoptFile { .. } => true,
        Action::AdoptObject { changes } => changes.is_empty(),
        Action::ClaimMachine => all.iter().any(|other| {
            other.target == step.target && matches!(other.action, Action::AdoptFile { .. })
        }),
        Action::ClaimCluster => {
            step.confirm
                || all
                    .iter()
                    .any(|other| matches!(other.action, Action::AdoptObject { .. }))
        }
        _ => false,
    }
}

fn object_conflict(step: &Step) -> Option<Conflict> {
    let diff = match &step.action {
        Action::AdoptObject { changes } if !changes.is_empty() => {
            let lines: Vec<String> = changes.iter().map(|field| format!("~ {field}")).collect();
            lines.join("\n")
        }
        Action::ApplyObject { .. } if step.confirm => step.why.text.clone(),
        _ => return None,
    };
    Some(Conflict {
        what: step.target.to_string(),
        step: Some(step.id.clone()),
        diff,
    })
}

/// Files at declared paths that trueup did not write and that differ.
fn file_conflicts(office: &Office, plan: &UnitPlan, steps: &[&Step]) -> Vec<Conflict> {
    let runtime = &office.runtime;
    let (Some(desired), Some((_, seen))) =
        (runtime.desired(&plan.unit), runtime.seen.get(&plan.unit))
    else {
        return Vec::new();
    };
    let mut conflicts = Vec::new();
    for machine in desired.machines.values() {
        let Some(Known::Known(facts)) = seen.machines.get(&machine.name) else {
            continue;
        };
        let record = facts.owner.clone().unwrap_or_default();
        for (path, (file, _)) in &machine.files {
            let Some(fact) = facts.files.get(path) else {
                continue;
            };
            if record.files.contains_key(path) {
                continue;
            }
            let Some(diff) = diff(file, fact) else {
                continue;
            };
            let step = steps.iter().find(|step| {
                step.target == Target::Machine(machine.name.clone())
                    && matches!(&step.action, Action::WriteFile { file, .. } if file.path == *path)
            });
            conflicts.push(Conflict {
                what: format!("{}:{path}", machine.name),
                step: step.map(|step| step.id.clone()),
                diff,
            });
        }
    }
    conflicts
}

/// How a file differs from what is declared; secrets are told, never shown.
fn diff(file: &FileSpec, fact: &FileFact) -> Option<String> {
    let (sha256, size, content) = match fact {
        FileFact::Absent => return None,
        FileFact::Other(kind) => return Some(format!("it is a {kind}, not a file")),
        FileFact::Present {
            sha256,
            size,
            content,
            ..
        } => (sha256, size, content),
    };
    if *sha256 == file.sha256 {
        return None;
    }
    let wanted = match &file.content {
        Content::Text(text) => text,
        Content::Secret(_) => return Some("its content differs (a secret: not shown)".to_owned()),
        Content::K3sBinary(version) => return Some(format!("it is not k3s {version}")),
    };
    let there = content
        .as_ref()
        .and_then(|bytes| std::str::from_utf8(bytes).ok());
    let Some(there) = there else {
        return Some(format!(
            "{size} bytes that are not shown, and {} are declared",
            wanted.len()
        ));
    };
    Some(unified(&file.path, there, wanted))
}

fn unified(path: &str, there: &str, wanted: &str) -> String {
    let diff = TextDiff::from_lines(there, wanted);
    let text = diff
        .unified_diff()
        .context_radius(3)
        .header(&format!("{path} (there)"), &format!("{path} (declared)"))
        .to_string();
    let mut lines: Vec<&str> = text.lines().collect();
    let cut = lines.len().saturating_sub(DIFF_LINES_MAX);
    lines.truncate(DIFF_LINES_MAX);
    let mut out = lines.join("\n");
    if cut > 0 {
        out.push_str(&format!("\n… {cut} more lines"));
    }
    out
}

/// How the take-over went.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Adopted {
    /// Lines of the steps that were done.
    pub(crate) done: Vec<String>,
    /// Lines of those that were begun and are not done, with why.
    pub(crate) failed: Vec<String>,
    /// Lines of those that a gate did not let through, with why.
    pub(crate) held: Vec<String>,
    /// The command that opens the first of those gates.
    pub(crate) next: Option<String>,
    /// What is left of the units now.
    pub(crate) left: Vec<UnitAdoption>,
}

impl Adopted {
    fn note(&mut self, unit: UnitResult, allowed: &BTreeSet<Digest>) {
        for (line, outcome) in unit.steps {
            match outcome {
                Outcome::Done => self.done.push(line),
                Outcome::Failed(why) | Outcome::Unknown(why) | Outcome::Fenced(why) => {
                    self.failed.push(format!("{line} — {why}"));
                }
            }
        }
        let ours = |held: &Held| allowed.contains(&held.step.id);
        for held in unit.held.into_iter().filter(ours) {
            let line = step_line(&held.step);
            self.held.push(format!("{line} — {}", held.hold.reason));
            self.next = self.next.take().or(held.hold.next);
        }
    }
}

/// Take the units over: grant and perform exactly the steps that `list` shows.
pub(crate) async fn adopt(
    office: &mut Office,
    units: &[String],
    mut listed: Vec<UnitAdoption>,
    author: &str,
    reason: &str,
    progress: &dyn Fn(&str),
) -> Result<Adopted, Failure> {
    let mut adopted = Adopted::default();
    let mut tried: BTreeSet<Digest> = BTreeSet::new();
    for _ in 0..ROUNDS_MAX {
        let steps: Vec<&Taken> = listed
            .iter()
            .flat_map(|unit| &unit.take)
            .filter(|step| !tried.contains(&step.id))
            .collect();
        if steps.is_empty() {
            break;
        }
        let grants: Vec<(String, String)> = steps
            .iter()
            .filter(|step| step.confirm)
            .map(|step| (step.id.0.clone(), step.line.clone()))
            .collect();
        office.write_grants(&grants, author, reason, GRANT_S)?;
        let allowed: BTreeSet<Digest> = steps.iter().map(|step| step.id.clone()).collect();
        tried.extend(allowed.iter().cloned());
        let result = office.apply(allowed.clone(), WAIT_S, progress).await?;
        for unit in result.units {
            adopted.note(unit, &allowed);
        }
        office.runtime.allowed = None;
        listed = list(office, units).await?;
    }
    adopted.left = listed;
    Ok(adopted)
}

#[cfg(test)]
mod tests {
    use trueup_model::kinds::SecretRef;

    use super::*;

    fn file(content: Content) -> FileSpec {
        FileSpec {
            path: "/etc/motd".to_owned(),
            mode: "0644".to_owned(),
            owner: "root".to_owned(),
            group: "root".to_owned(),
            sha256: Digest::of(b"declared\n"),
            content,
        }
    }

    fn there(content: Option<&[u8]>) -> FileFact {
        FileFact::Present {
            sha256: Digest::of(content.unwrap_or(b"big")),
            mode: "0644".to_owned(),
            owner: "root".to_owned(),
            group: "root".to_owned(),
            size: 7,
            mtime_s: 0,
            content: content.map(<[u8]>::to_vec),
        }
    }

    #[test]
    fn conflicts_are_shown_line_by_line_and_secrets_never() {
        let text = file(Content::Text("declared\n".to_owned()));
        let shown = diff(&text, &there(Some(b"mine\n"))).unwrap();
        assert!(
            shown.contains("-mine") && shown.contains("+declared"),
            "{shown}"
        );
        assert_eq!(diff(&text, &there(Some(b"declared\n"))), None);
        assert!(
            diff(&text, &there(Some(b"\xff\xfe")))
                .unwrap()
                .contains("7 bytes")
        );
        assert!(diff(&text, &there(None)).unwrap().contains("not shown"));
        let secret = file(Content::Secret(SecretRef {
            secret: "secrets/a".to_owned(),
            key: "k".to_owned(),
        }));
        let shown = diff(&secret, &there(Some(b"hunter2\n"))).unwrap();
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
