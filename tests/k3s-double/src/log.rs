//! Log lines in the form that k3s writes (logrus text), to standard error.
//!
//! Must never carry a secret: callers pass names and causes, not values of token flags.

use std::io::Write as _;

fn line(level: &str, message: &str) {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
    // Nobody is left to tell when standard error is gone.
    drop(writeln!(
        std::io::stderr().lock(),
        "time=\"{now}\" level={level} msg={message:?}"
    ));
}

/// Writes one line at level info.
pub(crate) fn info(message: impl AsRef<str>) {
    line("info", message.as_ref());
}

/// Writes one line at level warning.
pub(crate) fn warn(message: impl AsRef<str>) {
    line("warning", message.as_ref());
}

/// Writes one line at level error.
pub(crate) fn error(message: impl AsRef<str>) {
    line("error", message.as_ref());
}

/// Writes one line at level fatal; the caller then ends the process with exit code 1.
pub(crate) fn fatal(message: impl AsRef<str>) {
    line("fatal", message.as_ref());
}
