//! How a run ends, and with which exit code (/cmd/server/main.go, signals/signals.go, checked).

use std::process::ExitCode;

use crate::log;

/// Why the process ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Before parts run: `level=fatal`, exit 1; systemd starts it again.
    Fatal(String),
    /// Once parts run: a shutdown is requested with its cause, exit 0.
    Shutdown(String),
    /// A part lost its leader election: exit 1.
    LeaseLost(&'static str),
    /// SIGTERM or SIGINT: exit 0.
    Asked,
}

impl Ending {
    /// A fatal ending with the whole chain of an error.
    pub(crate) fn fatal(error: impl std::fmt::Display) -> Self {
        Self::Fatal(format!("{error:#}"))
    }

    /// Writes the last line and gives the exit code.
    pub(crate) fn finish(self) -> ExitCode {
        match self {
            Self::Fatal(cause) => {
                log::fatal(format!("Error: {cause}"));
                ExitCode::FAILURE
            }
            Self::Shutdown(cause) => {
                log::error(format!("Shutdown request received: {cause:?}"));
                ExitCode::SUCCESS
            }
            Self::LeaseLost(part) => {
                log::error(format!("leaderelection lost for {part}"));
                ExitCode::FAILURE
            }
            Self::Asked => ExitCode::SUCCESS,
        }
    }
}
