//! `trueup status`.

use camino::Utf8Path;
use clap::Args;
use trueup_model::port::store::Owed;

use super::exit::Exit;
use super::{Failure, Output, OutputArgs, show};
use crate::app::office::{Desk, Request, open};
use crate::app::view::{StatusView, UnitStatus};

/// Options of `status`.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    output: OutputArgs,
}

/// What is true, what is not, and what it waits for.
pub(super) async fn status(config: &Utf8Path, args: StatusArgs) -> Result<Exit, Failure> {
    let view: StatusView = match open(config).await? {
        Desk::Loop(client) => {
            let answer = client.ask(&Request::Status).await?;
            serde_json::from_value(answer.json)
                .map_err(|error| Failure::new("TU0900", error.to_string()))?
        }
        Desk::Own(mut office) => office.status().await?,
    };
    match args.output.output {
        Output::Human => show::out(&human(&view)),
        Output::Json => show::json(
            &serde_json::to_value(&view)
                .map_err(|error| Failure::new("TU0900", error.to_string()))?,
        ),
    }
    Ok(Exit::Done)
}

/// A status for people.
pub(crate) fn human(view: &StatusView) -> String {
    let mut out = format!(
        "fleet {}  commit {}  {}\n",
        view.fleet,
        view.commit
            .as_deref()
            .map_or("none", |commit| commit.get(..10).unwrap_or(commit)),
        if view.running {
            "a loop runs"
        } else {
            "no loop runs"
        },
    );
    if let Some(held) = &view.held {
        out.push_str(&format!("  held: {held}\n"));
    }
    for finding in &view.findings {
        out.push_str(&format!("  {finding}\n"));
    }
    for owed in &view.deliveries {
        delivery_text(&mut out, owed);
    }
    for unit in &view.units {
        unit_text(&mut out, unit, view.as_of_s);
    }
    out
}

fn delivery_text(out: &mut String, owed: &Owed) {
    let to = &owed.destination;
    if owed.waiting > 0 {
        let why = match owed.why.as_str() {
            "" => String::new(),
            why => format!(": {why}"),
        };
        let count = owed.waiting;
        out.push_str(&format!("  {count} verdicts wait for {to}{why}\n"));
    }
    if owed.refused > 0 {
        let (count, why) = (owed.refused, &owed.refused_why);
        out.push_str(&format!("  {count} verdicts are refused by {to}: {why}\n"));
    }
}

fn unit_text(out: &mut String, unit: &UnitStatus, now_s: i64) {
    let age = unit.looked_s.map_or_else(
        || "never looked at".to_owned(),
        |at| format!("as of {} s ago", now_s - at),
    );
    out.push_str(&format!("{}  {}  ({age})\n", unit.unit, unit.state));
    if !unit.description.is_empty() {
        out.push_str(&format!("  {}\n", unit.description));
    }
    if let Some(paused) = &unit.paused {
        out.push_str(&format!(
            "  paused: {paused}; next: trueup resume {}\n",
            unit.unit
        ));
    }
    if let (Some(host), Some(repo)) = (&unit.host, &unit.repo) {
        let word = |on: bool| if on { "on" } else { "off" };
        out.push_str(&format!(
            "  roll out: host {}, repo {}; correct drift: host {}, repo {}; report: host {}, repo {}\n",
            word(host.roll_out),
            word(repo.roll_out),
            word(host.correct_drift),
            word(repo.correct_drift),
            word(host.report_drift),
            word(repo.report_drift),
        ));
    }
    for (title, lines) in [
        ("step", &unit.steps),
        ("held", &unit.held),
        ("wait", &unit.waits),
    ] {
        for line in lines {
            out.push_str(&format!("  {title}: {line}\n"));
        }
    }
}
