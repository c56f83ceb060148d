//! `trueup doctor`.

use camino::Utf8Path;
use clap::Args;
use serde_json::json;

use super::exit::Exit;
use super::{Failure, Output, OutputArgs, show};
use crate::app::first::doctor::{Finding, Health, look};

/// Options of `doctor`.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Only the machines of this Node, machine or cluster.
    target: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

/// What is missing, and what repairs it.
pub(super) async fn doctor(config: &Utf8Path, args: DoctorArgs) -> Result<Exit, Failure> {
    let found = look(config, args.target.as_deref()).await;
    let ill = found
        .iter()
        .filter(|finding| finding.health == Health::Ill)
        .count();
    match args.output.output {
        Output::Human => show::out(&text(&found, ill)),
        Output::Json => show::json(&json!({ "well": ill == 0, "findings": found })),
    }
    Ok(if ill == 0 { Exit::Done } else { Exit::Error })
}

fn text(found: &[Finding], ill: usize) -> String {
    let mut out = String::new();
    for finding in found {
        let word = match finding.health {
            Health::Well => "well  ",
            Health::Ill => "ILL   ",
            Health::Unseen => "unseen",
        };
        out.push_str(&format!(
            "{word}  {}: {}\n",
            finding.subject, finding.evidence
        ));
        if let Some(repair) = &finding.repair {
            out.push_str(&format!("        repair: {repair}\n"));
        }
    }
    out.push_str(&match ill {
        0 => "all is well\n".to_owned(),
        1 => "one thing is ill\n".to_owned(),
        count => format!("{count} things are ill\n"),
    });
    out
}
