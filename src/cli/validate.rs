//! `trueup validate`.

use clap::Args;
use trueup_core::config::Loaded;

use super::Failure;
use super::exit::Exit;

/// Options of `validate`.
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// A folder of a config repo.
    path: Option<camino::Utf8PathBuf>,
}

/// Check a config repo.
pub(super) fn validate(_: ValidateArgs) -> Result<Exit, Failure> {
    Ok(Exit::Done)
}

/// Findings for people.
pub fn findings_text(loaded: &Loaded) -> String {
    loaded
        .findings
        .iter()
        .map(|finding| format!("{}: {}\n", finding.place(), finding.message))
        .collect()
}
