//! `trueup adopt`.

use camino::Utf8Path;
use clap::Args;
use serde_json::{Value, json};

use super::exit::Exit;
use super::{Failure, Output, OutputArgs, show};
use crate::app::first::adopt::{Adopted, UnitAdoption, adopt as take_over, list};
use crate::app::first::place;
use crate::app::office::{Desk, Request, open};

/// Options of `adopt`.
#[derive(Debug, Args)]
pub(super) struct AdoptArgs {
    /// Units to take over (`cluster/edge`, `machine/lab`). Without one, all are shown and
    /// nothing is done.
    units: Vec<String>,
    /// Do not ask. It never covers what has other content.
    #[arg(long)]
    yes: bool,
    /// Why; it is recorded with the grant.
    #[arg(long, default_value = "adopted as it was")]
    reason: String,
    #[command(flatten)]
    output: OutputArgs,
}

/// Take over what lives already, unchanged.
pub(super) async fn adopt(config: &Utf8Path, args: AdoptArgs) -> Result<Exit, Failure> {
    let trueup = place::command(config);
    let mut office = match open(config).await? {
        Desk::Own(office) => office,
        Desk::Loop(client) => {
            let request = Request::Plan {
                rev: None,
                units: args.units.clone(),
            };
            let plan = client.ask(&request).await?.json;
            return by_loop(config, &args, &plan).await;
        }
    };
    let listed = list(&mut office, &args.units).await?;
    let nothing = listed.iter().all(UnitAdoption::is_empty);
    if args.units.is_empty() || nothing {
        match args.output.output {
            Output::Human => show::out(&(listing(&listed, &trueup) + &next(&listed, &trueup))),
            Output::Json => show::json(&json!({ "units": listed })),
        }
        return Ok(Exit::Done);
    }
    show::progress(&listing(&listed, &trueup));
    let takes = listed.iter().any(|unit| !unit.take.is_empty());
    if takes && !args.yes && !confirmed(&args, &trueup)? {
        return Ok(Exit::Blocked);
    }
    let author = crate::app::socket::author_of(rustix::process::getuid().as_raw());
    let adopted = Box::pin(take_over(
        &mut office,
        &args.units,
        listed,
        &author,
        &args.reason,
        &show::progress,
    ))
    .await?;
    match args.output.output {
        Output::Human => show::out(&outcome(&adopted, &trueup)),
        Output::Json => show::json(&json!(adopted)),
    }
    Ok(if !adopted.failed.is_empty() {
        Exit::Partial
    } else if !adopted.held.is_empty() || adopted.left.iter().any(|unit| !unit.conflicts.is_empty())
    {
        Exit::Blocked
    } else {
        Exit::Done
    })
}

fn confirmed(args: &AdoptArgs, trueup: &str) -> Result<bool, Failure> {
    if show::is_interactive() {
        return Ok(show::ask("Take these over as they are?"));
    }
    Err(Failure::new("TU0906", "nobody is there to be asked")
        .next(format!("{trueup} adopt {} --yes", args.units.join(" ")))
        .exit(Exit::Usage))
}

fn listing(units: &[UnitAdoption], trueup: &str) -> String {
    let mut out = String::new();
    for unit in units {
        out.push_str(&format!("{}\n", unit.unit));
        if !unit.take.is_empty() {
            out.push_str("  taken over unchanged (ownership records only)\n");
        }
        for step in &unit.take {
            out.push_str(&format!("    {}\n", step.line));
        }
        conflicts(&mut out, unit, trueup);
        for wait in &unit.waits {
            out.push_str(&format!("  {wait}\n"));
        }
        if unit.is_empty() {
            out.push_str("  nothing to adopt\n");
        }
        if unit.later > 0 {
            out.push_str(&format!(
                "  {} other steps are left to {trueup} apply\n",
                unit.later
            ));
        }
    }
    out
}

/// The command that goes on from a listing.
fn next(units: &[UnitAdoption], trueup: &str) -> String {
    match units.iter().find(|unit| !unit.take.is_empty()) {
        Some(unit) => format!("  next: {trueup} adopt {}\n", unit.unit),
        None => format!("  next: {trueup} plan\n"),
    }
}

fn conflicts(out: &mut String, unit: &UnitAdoption, trueup: &str) {
    for conflict in &unit.conflicts {
        out.push_str(&format!(
            "  differs, and is left alone: {}\n",
            conflict.what
        ));
        for line in conflict.diff.lines() {
            out.push_str(&format!("    {line}\n"));
        }
        if let Some(step) = &conflict.step {
            out.push_str(&format!(
                "    to overwrite it: {trueup} approve {} --reason WHY\n",
                step.short()
            ));
        }
    }
}

fn outcome(adopted: &Adopted, trueup: &str) -> String {
    let mut out = String::new();
    for line in &adopted.done {
        out.push_str(&format!("adopted: {line}\n"));
    }
    for line in &adopted.failed {
        out.push_str(&format!("not adopted: {line}\n"));
    }
    for line in &adopted.held {
        out.push_str(&format!("held: {line}\n"));
    }
    for unit in &adopted.left {
        conflicts(&mut out, unit, trueup);
    }
    let plan = format!("{trueup} plan");
    let next = adopted.next.as_ref().unwrap_or(&plan);
    out.push_str(&format!("  next: {next}\n"));
    out
}

/// A loop holds the fleet: it is granted the steps, and performs them with its next look.
async fn by_loop(config: &Utf8Path, args: &AdoptArgs, plan: &Value) -> Result<Exit, Failure> {
    let steps = adoption_steps(plan);
    if steps.is_empty() {
        show::out("nothing to adopt");
        return Ok(Exit::Done);
    }
    let lines: Vec<&str> = steps.iter().map(|(_, line)| line.as_str()).collect();
    show::progress(&lines.join("\n"));
    let trueup = place::command(config);
    if args.units.is_empty() {
        show::progress(&format!("  next: {trueup} adopt UNIT"));
        return Ok(Exit::Done);
    }
    if !args.yes && !confirmed(args, &trueup)? {
        return Ok(Exit::Blocked);
    }
    let Desk::Loop(client) = open(config).await? else {
        return Err(Failure::new("TU0912", "the loop ended meanwhile")
            .next(format!("{trueup} adopt {}", args.units.join(" "))));
    };
    let request = Request::Approve {
        steps: steps.into_iter().map(|(id, _)| id).collect(),
        deletions: None,
        commit: None,
        reason: args.reason.clone(),
        expires_s: 3600,
    };
    let answer = client.ask(&request).await?;
    show::out(&format!(
        "{}\nthe loop carries it out at its next look",
        answer.text
    ));
    Ok(Exit::Done)
}

/// Held steps of a plan that only take over, with a line for each.
fn adoption_steps(plan: &Value) -> Vec<(String, String)> {
    let units = plan.pointer("/units").and_then(Value::as_array);
    let held = units.into_iter().flatten().flat_map(|unit| {
        let lists = ["/frontier/held", "/left"];
        lists
            .into_iter()
            .filter_map(|list| unit.pointer(list)?.as_array())
            .flatten()
    });
    let mut found: Vec<(String, String)> = Vec::new();
    for held in held {
        let text = |pointer: &str| held.pointer(pointer).and_then(Value::as_str);
        let equal = held
            .pointer("/step/action/changes")
            .and_then(Value::as_array)
            .is_none_or(Vec::is_empty);
        let takes = matches!(
            text("/step/action/do"),
            Some("adoptMachine" | "adoptFile" | "adoptObject" | "claimCluster")
        );
        let by_grant = text("/hold/gate") == Some("grant");
        if let (true, true, true, Some(id)) = (equal, takes, by_grant, text("/step/id"))
            && !found.iter().any(|(known, _)| known == id)
        {
            let why = text("/step/why/text").unwrap_or_default();
            found.push((
                id.to_owned(),
                format!("{}: {why}", text("/step/unit").unwrap_or(id)),
            ));
        }
    }
    found
}
