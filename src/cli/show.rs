//! Printing: the only place that writes to stdout and stderr.

use std::io::{IsTerminal as _, Write as _};

use super::Failure;

/// Print a result. A reader that went away (`| head`) is no error.
pub(super) fn out(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _gone = stdout.write_all(text.as_bytes());
    if !text.ends_with('\n') && !text.is_empty() {
        let _gone = stdout.write_all(b"\n");
    }
    let _gone = stdout.flush();
}

/// Print JSON.
pub(super) fn json(value: &serde_json::Value) {
    out(&serde_json::to_string_pretty(value).unwrap_or_else(|error| error.to_string()));
}

/// Tell progress, on stderr.
pub(super) fn progress(text: &str) {
    let _gone = writeln!(std::io::stderr().lock(), "{text}");
}

/// Print an error.
pub(super) fn error(failure: &Failure) {
    let mut text = format!("error[{}]: {}", failure.code, failure.message);
    if let Some(next) = &failure.next {
        text.push_str(&format!("\n  next: {next}"));
    }
    progress(&text);
}

/// A person is there to answer.
pub(super) fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Ask; only `yes` is a yes.
pub(super) fn ask(question: &str) -> bool {
    let mut stderr = std::io::stderr().lock();
    let _gone = write!(stderr, "{question} Type yes: ");
    let _gone = stderr.flush();
    drop(stderr);
    let mut line = String::new();
    match std::io::stdin().read_line(&mut line) {
        Ok(_) => line.trim() == "yes",
        Err(_) => false,
    }
}

/// Ask for a text; an empty answer is the default.
pub(super) fn answer(question: &str, default: &str) -> String {
    let mut stderr = std::io::stderr().lock();
    let hint = if default.is_empty() {
        String::new()
    } else {
        format!(" [{default}]")
    };
    let _gone = write!(stderr, "{question}{hint} ");
    let _gone = stderr.flush();
    drop(stderr);
    let mut line = String::new();
    match std::io::stdin().read_line(&mut line) {
        Ok(_) if !line.trim().is_empty() => line.trim().to_owned(),
        Ok(_) | Err(_) => default.to_owned(),
    }
}

/// Colours are wanted: a terminal, and nobody said `NO_COLOR`.
pub(super) fn is_colored() -> bool {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    !plain && std::io::stdout().is_terminal()
}
