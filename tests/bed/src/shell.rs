//! Running a program of the test machine to its end.

use std::{
    ffi::OsStr,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// Runs `argv` without input and returns its standard output; what it wrote to
/// standard error is the error when it fails.
pub fn run<S: AsRef<OsStr>>(argv: &[S]) -> Result<String> {
    let shown = || {
        argv.iter()
            .map(|word| word.as_ref().to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let output = Command::new(&argv[0])
        .args(&argv[1..])
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{}`", shown()))?;
    if !output.status.success() {
        bail!(
            "`{}` failed ({}): {}",
            shown(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// [`run`] for a line of plain words separated by blanks.
pub fn run_words(line: &str) -> Result<String> {
    run(&line.split_whitespace().collect::<Vec<_>>())
}
