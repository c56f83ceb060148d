//! Findings for programs. The form is stable: fields are added, never renamed or removed.

use serde::Serialize;
use trueup_model::document::{Diagnostic, Severity, Span};

use super::Findings;

#[derive(Serialize)]
struct Report<'a> {
    errors: usize,
    warnings: usize,
    findings: Vec<Finding<'a>>,
}

#[derive(Serialize)]
struct Finding<'a> {
    code: &'static str,
    rule: &'static str,
    severity: Severity,
    file: String,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    place: Option<Place>,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    related: Vec<Related<'a>>,
}

#[derive(Serialize)]
struct Related<'a> {
    file: String,
    #[serde(flatten)]
    place: Place,
    label: &'a str,
}

/// Lines and columns count from 1, columns in characters, offsets in bytes.
#[derive(Serialize)]
struct Place {
    line: usize,
    column: usize,
    start: usize,
    end: usize,
}

impl From<Span> for Place {
    fn from(span: Span) -> Self {
        Self {
            line: span.line,
            column: span.column,
            start: span.start,
            end: span.end,
        }
    }
}

/// One JSON object.
pub(crate) fn render_json(findings: Findings<'_>) -> String {
    let (errors, warnings) = findings.counts();
    let all = findings
        .all
        .iter()
        .map(|finding| one(findings, finding))
        .collect();
    let report = Report {
        errors,
        warnings,
        findings: all,
    };
    // Strings and numbers only: this cannot fail.
    serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"
}

fn one<'a>(findings: Findings<'_>, finding: &'a Diagnostic) -> Finding<'a> {
    Finding {
        code: finding.code.id,
        rule: finding.code.slug,
        severity: finding.severity,
        file: findings.path(&finding.file),
        place: finding.span.map(Place::from),
        message: &finding.message,
        label: finding.label.as_deref(),
        help: finding.help.as_deref(),
        related: finding
            .related
            .iter()
            .map(|related| Related {
                file: findings.path(&related.file),
                place: related.span.into(),
                label: &related.label,
            })
            .collect(),
    }
}
