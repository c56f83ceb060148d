//! `trueup demo`.

use camino::Utf8PathBuf;
use clap::Args;

use super::exit::Exit;
use super::{Failure, show};
use crate::app::demo::{Demo, run};

/// Options of `demo`.
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Folder of the demo. Default: `trueup-demo` below `XDG_STATE_HOME`, or
    /// `~/.local/state`.
    #[arg(long)]
    dir: Option<Utf8PathBuf>,
    /// No pauses: nothing takes any time.
    #[arg(long)]
    fast: bool,
}

/// Show everything on a simulated fleet.
pub(super) async fn demo(args: DemoArgs) -> Result<Exit, Failure> {
    let dir = match args.dir {
        Some(dir) => dir,
        None => default_dir()?,
    };
    let dir = camino::absolute_utf8(&dir)
        .map_err(|error| Failure::new("TU0916", format!("{dir}: {error}")).exit(Exit::Usage))?;
    run(
        Demo {
            dir,
            fast: args.fast,
        },
        &|text| show::out(text),
    )
    .await
}

fn default_dir() -> Result<Utf8PathBuf, Failure> {
    let of = |name: &str| {
        let value = std::env::var(name).ok()?;
        (!value.is_empty()).then(|| Utf8PathBuf::from(value))
    };
    let state = of("XDG_STATE_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| of("HOME").map(|home| home.join(".local/state")));
    state.map(|state| state.join("trueup-demo")).ok_or_else(|| {
        Failure::new("TU0916", "there is no HOME to keep the demo in")
            .next("trueup demo --dir DIR")
            .exit(Exit::Usage)
    })
}
