//! `trueup schema` and `trueup completions`.

use clap::{Args, CommandFactory as _};
use trueup_core::config::Kind;

use super::exit::Exit;
use super::{Cli, Failure, show};

/// Options of `schema`.
#[derive(Debug, Args)]
pub(super) struct SchemaArgs {
    /// The kind; without it, the kinds are listed.
    kind: Option<String>,
}

/// Print a schema.
pub(super) fn schema(args: &SchemaArgs) -> Result<Exit, Failure> {
    let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    let Some(wanted) = &args.kind else {
        show::out(&names.join("\n"));
        return Ok(Exit::Done);
    };
    let kind = Kind::ALL
        .into_iter()
        .find(|kind| kind.name().eq_ignore_ascii_case(wanted))
        .ok_or_else(|| {
            Failure::new("TU0906", format!("there is no kind {wanted}"))
                .next(format!("one of {}", names.join(", ")))
                .exit(Exit::Usage)
        })?;
    show::json(&kind.schema());
    Ok(Exit::Done)
}

/// Print completions.
pub(super) fn completions(shell: clap_complete::Shell) {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "trueup", &mut text);
    show::out(&String::from_utf8_lossy(&text));
}
