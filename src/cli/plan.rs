//! `trueup plan`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use trueup_core::gate::Hold;
use trueup_core::plan::UnitPlan;
use trueup_model::step::{Action, Disruption, Step};

use super::exit::Exit;
use super::{Failure, Output, OutputArgs, show};
use crate::app::office::{Desk, Request, open};
use crate::app::view::{PlanView, wait_line};

/// Options of `plan`.
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// Plan this commit instead of the tracked branch's tip.
    #[arg(long)]
    rev: Option<String>,
    /// Only these units (`cluster/edge`, `machine/lab`).
    #[arg(long = "unit")]
    units: Vec<String>,
    /// Save the plan, for `trueup apply FILE`.
    #[arg(long)]
    out: Option<Utf8PathBuf>,
    /// Exit with 2 when there are changes.
    #[arg(long)]
    detailed_exitcode: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// Show what would be done.
pub(super) async fn plan(config: &Utf8Path, args: PlanArgs) -> Result<Exit, Failure> {
    let request = Request::Plan {
        rev: args.rev.clone(),
        units: args.units.clone(),
    };
    let (text, value) = match open(config).await? {
        Desk::Loop(client) => {
            let answer = client.ask(&request).await?;
            (answer.text, answer.json)
        }
        Desk::Own(mut office) => {
            let view = office.plan(args.rev.as_deref(), &args.units).await?;
            (human(&view), json(&view)?)
        }
    };
    if let Some(path) = &args.out {
        save(path, &value)?;
    }
    match args.output.output {
        Output::Human => show::out(&text),
        Output::Json => show::json(&value),
    }
    let changes = value
        .pointer("/units")
        .and_then(serde_json::Value::as_array)
        .is_some_and(|units| units.iter().any(has_changes));
    Ok(if args.detailed_exitcode && changes {
        Exit::Changes
    } else {
        Exit::Done
    })
}

fn has_changes(unit: &serde_json::Value) -> bool {
    ["/frontier/ready", "/frontier/held", "/forecast", "/left"]
        .iter()
        .filter_map(|pointer| unit.pointer(pointer)?.as_array())
        .any(|list| !list.is_empty())
}

/// A view as JSON.
pub(crate) fn json(view: &PlanView) -> Result<serde_json::Value, Failure> {
    serde_json::to_value(view).map_err(|error| Failure::new("TU0900", error.to_string()))
}

/// Written beside and renamed: a reader never sees half a plan.
fn save(path: &Utf8Path, value: &serde_json::Value) -> Result<(), Failure> {
    let failure =
        |error: std::io::Error| Failure::new("TU0911", format!("cannot write {path}: {error}"));
    let new = Utf8PathBuf::from(format!("{path}.new"));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .map_err(failure)?;
    file.write_all(value.to_string().as_bytes())
        .map_err(failure)?;
    file.sync_all().map_err(failure)?;
    std::fs::rename(&new, path).map_err(failure)
}

/// A plan for people: waves, then what waits, deletions by name, the summary last.
pub(crate) fn human(view: &PlanView) -> String {
    let mut out = format!("plan of fleet {} at {}\n", view.fleet, view.commit.short());
    for unit in &view.units {
        unit_text(&mut out, unit);
    }
    out
}

fn unit_text(out: &mut String, plan: &UnitPlan) {
    out.push_str(&format!("\n{}\n", plan.unit));
    for (number, wave) in plan.waves().enumerate() {
        let when = if number == 0 && !plan.frontier.ready.is_empty() {
            "now".to_owned()
        } else {
            format!("wave {}", number + 1)
        };
        out.push_str(&format!("  {when}\n"));
        for line in grouped(wave) {
            out.push_str(&format!("    {line}\n"));
        }
    }
    held_text(out, plan);
    let mut waits: Vec<_> = plan.frontier.waits.iter().chain(&plan.waits).collect();
    waits.sort();
    waits.dedup();
    if !waits.is_empty() {
        out.push_str("  waits\n");
        for wait in waits.iter().take(LISTED_MAX) {
            out.push_str(&format!("    {}\n", wait_line(wait)));
        }
        more(out, waits.len());
    }
    deletions(out, plan);
    out.push_str(&format!("  {}\n", summary(plan)));
}

/// Held steps by what holds them: a newcomer's whole plan waits for one switch.
fn held_text(out: &mut String, plan: &UnitPlan) {
    let mut holds: Vec<(&Hold, Vec<Step>)> = Vec::new();
    for held in &plan.left {
        match holds.iter_mut().find(|(hold, _)| **hold == held.hold) {
            Some((_, steps)) => steps.push(held.step.clone()),
            None => holds.push((&held.hold, vec![held.step.clone()])),
        }
    }
    for (hold, steps) in holds.iter().take(LISTED_MAX) {
        out.push_str(&format!("  held: {}\n", hold.reason));
        if let Some(next) = &hold.next {
            out.push_str(&format!("    next: {next}\n"));
        }
        let lines = grouped(steps);
        for line in lines.iter().take(LISTED_MAX) {
            out.push_str(&format!("    {line}\n"));
        }
        more(out, lines.len());
    }
    more(out, holds.len());
}

/// Lines of one list; a deletion is never cut.
const LISTED_MAX: usize = 12;

fn more(out: &mut String, count: usize) {
    if count > LISTED_MAX {
        out.push_str(&format!(
            "    … and {} more (-o json shows all)\n",
            count - LISTED_MAX
        ));
    }
}

/// Equal actions on several targets in one line, objects of an Application by kind.
fn grouped(wave: &[Step]) -> Vec<String> {
    let mut groups: Vec<((String, String), Vec<&Step>)> = Vec::new();
    for step in wave {
        let key = key(step);
        match groups.iter_mut().find(|(other, _)| *other == key) {
            Some((_, steps)) => steps.push(step),
            None => groups.push((key, vec![step])),
        }
    }
    groups
        .iter()
        .map(|(key, steps)| group_line(key, steps))
        .collect()
}

fn key(step: &Step) -> (String, String) {
    use trueup_model::step::Target;
    let verb = step.action.verb().to_owned();
    match (&step.target, &step.action) {
        (Target::Object(app, _), Action::ApplyObject { create: true, .. }) => {
            (verb, format!("{app}:"))
        }
        (Target::Object(..), _) => (verb, step.target.to_string()),
        (_, Action::StartK3s { unit, join, .. }) => {
            let how = if join.is_some() {
                "joining"
            } else {
                "as the first server"
            };
            (verb, format!("{unit} {how}"))
        }
        _ => (verb, step.action.subject()),
    }
}

fn group_line((verb, subject): &(String, String), steps: &[&Step]) -> String {
    use trueup_model::step::Target;
    let names: Vec<String> = steps
        .iter()
        .map(|step| match &step.target {
            Target::Object(_, object) if subject.ends_with(':') => object.to_string(),
            Target::Object(..) => String::new(),
            other => other.to_string(),
        })
        .filter(|name| !name.is_empty())
        .collect();
    let on = match names.len() {
        0 => String::new(),
        1..=5 => format!("  {}", names.join(" ")),
        count => {
            let shown = names.get(..3).unwrap_or(&[]).join(" ");
            format!("  {shown} … ({count})")
        }
    };
    let first = steps.first();
    let class = first.map_or("", |step| match step.class {
        Disruption::None => "",
        other => other.as_str(),
    });
    let class = if class.is_empty() {
        String::new()
    } else {
        format!(" [{class}]")
    };
    let why = first.map_or_else(String::new, |step| {
        let at = step
            .why
            .at
            .as_ref()
            .map_or_else(String::new, |at| format!("{at}: "));
        format!("{at}{}", step.why.text)
    });
    format!("{verb} {subject}{on}{class}  ({why})")
}

fn deletions(out: &mut String, plan: &UnitPlan) {
    let all: Vec<&Step> = plan
        .steps()
        .chain(plan.left.iter().map(|held| &held.step))
        .filter(|step| step.class == Disruption::Destructive)
        .collect();
    if all.is_empty() {
        return;
    }
    out.push_str("  deletions\n");
    for step in all {
        let subject = step.action.subject();
        out.push_str(&format!(
            "    {} {}{}\n",
            step.action.verb(),
            step.target,
            if subject.is_empty() {
                String::new()
            } else {
                format!(" {subject}")
            }
        ));
    }
}

fn summary(plan: &UnitPlan) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut restarts = 0;
    for step in plan.steps() {
        *counts.entry(step.action.verb()).or_default() += 1;
        restarts += usize::from(step.class == Disruption::Restart);
    }
    if counts.is_empty() && plan.left.is_empty() {
        return "no changes".to_owned();
    }
    let list: Vec<String> = counts
        .iter()
        .map(|(verb, count)| format!("{count} {verb}"))
        .collect();
    let total: usize = counts.values().sum();
    format!(
        "{total} steps in {} waves ({}), {restarts} restarts, {} held",
        plan.waves().count(),
        list.join(", "),
        plan.left.len()
    )
}
