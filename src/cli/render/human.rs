//! Findings as rustc shows its own: message, file, the source line, what to do.

use std::collections::BTreeSet;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{
    Annotation, AnnotationKind, Element, Level, Renderer, Snippet, normalize_untrusted_str,
};
use trueup_model::document::{Diagnostic, Severity, Span};

use super::Findings;

/// Longer lines are cut by the renderer around the mark.
const WIDTH_MAX: usize = 120;

/// All findings, one below the other, and how many there are.
pub(crate) fn render_human(findings: Findings<'_>, color: bool) -> String {
    let renderer = if color {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let renderer = renderer
        .decor_style(DecorStyle::Ascii)
        .term_width(WIDTH_MAX);
    let mut out = String::new();
    let concealed: Concealed<'_> = findings
        .all
        .iter()
        .filter(|finding| finding.conceal)
        .filter_map(|finding| Some((&*finding.file, finding.span?.line)))
        .collect();
    for finding in findings.all {
        out.push_str(&one(findings, &concealed, finding, &renderer));
        out.push_str("\n\n");
    }
    out.push_str(&findings.summary());
    out.push('\n');
    out
}

/// Lines that may hold a secret.
type Concealed<'a> = BTreeSet<(&'a str, usize)>;

fn one(
    findings: Findings<'_>,
    concealed: &Concealed<'_>,
    finding: &Diagnostic,
    renderer: &Renderer,
) -> String {
    let level = match finding.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level
        .primary_title(clean(&finding.message))
        .id(format!("{} {}", finding.code.id, finding.code.slug));
    let mut elements: Vec<Element<'_>> = Vec::new();
    let shown = finding.span.filter(|_| !finding.conceal).and_then(|span| {
        let label = finding.label.as_deref();
        snippet(
            findings,
            concealed,
            &finding.file,
            span,
            label,
            AnnotationKind::Primary,
        )
    });
    match shown {
        Some(snippet) => elements.push(snippet.into()),
        None => {
            let mut origin = annotate_snippets::Origin::path(clean(&findings.path(&finding.file)));
            if let Some(span) = finding.span {
                origin = origin.line(span.line).char_column(span.column);
            }
            elements.push(origin.into());
        }
    }
    for related in &finding.related {
        let label = Some(related.label.as_str());
        let kind = AnnotationKind::Context;
        elements.extend(
            snippet(
                findings,
                concealed,
                &related.file,
                related.span,
                label,
                kind,
            )
            .map(Element::from),
        );
    }
    if let Some(help) = &finding.help {
        elements.push(Level::HELP.message(clean(help)).into());
    }
    renderer.render(&[title.elements(elements)])
}

/// The first line of a place with its mark.
fn snippet<'a>(
    findings: Findings<'a>,
    concealed: &Concealed<'_>,
    file: &str,
    span: Span,
    label: Option<&str>,
    kind: AnnotationKind,
) -> Option<Snippet<'a, Annotation<'a>>> {
    // Another finding may know that this line holds a secret.
    if concealed.contains(&(file, span.line)) {
        return None;
    }
    let text = findings.sources.get(file)?;
    let start = text.get(..span.start)?.rfind('\n').map_or(0, |at| at + 1);
    let end = text
        .get(span.start..)?
        .find('\n')
        .map_or(text.len(), |at| span.start + at);
    let line = text.get(start..end)?.trim_end_matches('\r');
    let from = (span.start - start).min(line.len());
    let to = (span.end.max(span.start) - start).min(line.len()).max(from);
    let mut annotation = kind.span(from..to);
    if let Some(label) = label {
        annotation = annotation.label(clean(label));
    }
    Some(
        Snippet::source(line)
            .line_start(span.line)
            .path(clean(&findings.path(file)))
            .annotation(annotation),
    )
}

/// Text of a stranger's file must not steer the reader's terminal.
fn clean(text: &str) -> String {
    normalize_untrusted_str(text)
}
