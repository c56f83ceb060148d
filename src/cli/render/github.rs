//! Findings as GitHub workflow commands, which become annotations on the lines of a pull request.

use std::fmt::Write as _;

use trueup_model::document::Severity;

use super::Findings;

/// GitHub shows ten errors and ten warnings of a step and drops the rest without a word; all are
/// written to the log nevertheless, errors first, and the summary says how many there are.
pub(crate) fn render_github(findings: Findings<'_>) -> String {
    let mut out = String::new();
    let mut sorted: Vec<_> = findings.all.iter().collect();
    sorted.sort_by_key(|finding| finding.severity);
    for finding in sorted {
        let command = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let title = format!("{} {}", finding.code.id, finding.code.slug);
        let mut properties = format!("file={}", property(&findings.path(&finding.file)));
        if let Some(span) = finding.span {
            // Writing to a String cannot fail.
            _ = write!(properties, ",line={},col={}", span.line, span.column);
        }
        _ = write!(properties, ",title={}", property(&title));
        let mut message = finding.message.clone();
        if let Some(help) = &finding.help {
            _ = write!(message, "\nhelp: {help}");
        }
        _ = writeln!(out, "::{command} {properties}::{}", data(&message));
    }
    // A line of the log must not be taken for a command.
    _ = writeln!(out, "trueup: {}", findings.summary());
    out
}

/// Escapes as the runner's own toolkit does (`@actions/core`, `command.ts`).
fn data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
