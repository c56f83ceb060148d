//! `trueup`: parse, run, exit.

use std::process::ExitCode;

use clap::Parser as _;
use trueup::cli::{self, Cli, exit::Exit};

fn main() -> ExitCode {
    // One TLS provider for the whole process; a second call finds it installed.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _gone = error.print();
            let help = error.exit_code() == 0;
            return if help { Exit::Done } else { Exit::Usage }.into();
        }
    };
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(&cli.log))
        .with_writer(std::io::stderr)
        .init();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the runtime does not start");
            return Exit::Error.into();
        }
    };
    let exit = runtime.block_on(cli::main(cli));
    // Tasks of a pass that is over are not waited for: jobs go on without us.
    runtime.shutdown_background();
    exit.into()
}
