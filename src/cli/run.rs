//! `trueup run`.

use camino::Utf8Path;
use clap::Args;

use super::Failure;
use super::exit::Exit;
use crate::app::office::{Desk, open};

/// Options of `run`.
#[derive(Debug, Args)]
pub(super) struct RunArgs {}

/// Keep the fleet true, for ever.
pub(super) async fn run(config: &Utf8Path, _: RunArgs) -> Result<Exit, Failure> {
    match open(config).await? {
        Desk::Own(office) => Box::pin(crate::app::daemon::run(office)).await,
        Desk::Loop(client) => Err(Failure::new(
            "TU0907",
            format!("{} converges this fleet already", client.who()),
        )
        .next("trueup status")
        .exit(Exit::Held)),
    }
}
