//! `trueup apply`.

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;

use super::exit::Exit;
use super::{Failure, Output, OutputArgs, show};
use crate::app::office::{Desk, open};
use crate::app::view::SavedPlan;

/// Options of `apply`.
#[derive(Debug, Args)]
pub(super) struct ApplyArgs {
    /// A plan that `trueup plan --out` saved. Without it a fresh one is made, shown,
    /// and asked about.
    file: Option<Utf8PathBuf>,
    /// Do not ask. It never covers what needs a grant of its own.
    #[arg(long)]
    yes: bool,
    /// Seconds to wait for what is on its way, after the last step.
    #[arg(long, default_value_t = 600)]
    wait_s: i64,
    #[command(flatten)]
    output: OutputArgs,
}

/// Do it.
pub(super) async fn apply(config: &Utf8Path, args: ApplyArgs) -> Result<Exit, Failure> {
    let mut office = match open(config).await? {
        Desk::Own(office) => office,
        Desk::Loop(client) => {
            return Err(Failure::new(
                "TU0907",
                format!("{} converges this fleet already", client.who()),
            )
            .next("trueup status")
            .exit(Exit::Held));
        }
    };
    let allowed = match &args.file {
        Some(path) => {
            let saved = read(path)?;
            office.open_saved(&saved).await?;
            saved.ids().cloned().collect()
        }
        None => {
            let view = office.plan(None, &[]).await?;
            show::progress(&super::plan::human(&view));
            let steps = view.units.iter().flat_map(|unit| unit.steps()).count();
            if steps > 0 && !args.yes && !confirmed()? {
                return Ok(Exit::Blocked);
            }
            view.units
                .iter()
                .flat_map(|unit| unit.steps().chain(unit.left.iter().map(|held| &held.step)))
                .map(|step| step.id.clone())
                .collect()
        }
    };
    let result = office.apply(allowed, args.wait_s, &show::progress).await?;
    match args.output.output {
        Output::Human => show::out(&result.text()),
        Output::Json => show::json(&result.json()),
    }
    Ok(result.exit())
}

fn confirmed() -> Result<bool, Failure> {
    if !show::is_interactive() {
        return Err(Failure::new("TU0906", "nobody is there to be asked")
            .next("trueup apply --yes")
            .exit(Exit::Usage));
    }
    Ok(show::ask("Carry this out?"))
}

fn read(path: &Utf8Path) -> Result<SavedPlan, Failure> {
    let failure =
        |why: String| Failure::new("TU0910", format!("cannot read the plan {path}: {why}"));
    let text = std::fs::read_to_string(path).map_err(|error| failure(error.to_string()))?;
    let saved: SavedPlan =
        serde_json::from_str(&text).map_err(|error| failure(error.to_string()))?;
    if saved.version != crate::app::view::PLAN_VERSION {
        return Err(
            failure(format!("it has form {}", saved.version)).next("trueup plan --out FILE")
        );
    }
    Ok(saved)
}
