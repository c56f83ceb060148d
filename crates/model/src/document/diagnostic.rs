//! Findings: what is wrong, where, and what to do about it. Pure data; rendering is the CLI's.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::span::Span;

/// A stable name for one rule. Identifiers are never reused; the table is in
/// [`super::codes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code {
    /// `TU0001`: what people search for and scripts match on.
    pub id: &'static str,
    /// `yaml/syntax`: what people read.
    pub slug: &'static str,
    /// One line on what the rule stands for.
    pub meaning: &'static str,
}

/// Whether a finding fails a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The document cannot be used.
    Error,
    /// The document is used; `--strict` turns it into a failure.
    Warning,
}

/// A second place that explains the first ("first defined here").
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Related {
    /// The file, relative to the tree's root.
    pub file: Arc<str>,
    /// The place in it.
    pub span: Span,
    /// What is there.
    pub label: String,
}

/// One finding. Never carries a decrypted value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The rule.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// The file, relative to the tree's root.
    pub file: Arc<str>,
    /// The place; `None` when the finding is about the file or folder as such.
    pub span: Option<Span>,
    /// What is wrong, lowercase, without a final stop.
    pub message: String,
    /// A few words under the marked text.
    pub label: Option<String>,
    /// What to do next.
    pub help: Option<String>,
    /// Other places that explain it.
    pub related: Vec<Related>,
    /// The marked line may hold a secret in clear text: show the place, never the line.
    pub conceal: bool,
}

impl Diagnostic {
    /// An error in `file`.
    #[must_use]
    pub fn error(code: Code, file: &Arc<str>, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            file: Arc::clone(file),
            span: None,
            message: message.into(),
            label: None,
            help: None,
            related: Vec::new(),
            conceal: false,
        }
    }

    /// A warning in `file`.
    #[must_use]
    pub fn warning(code: Code, file: &Arc<str>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(code, file, message)
        }
    }

    /// At this place.
    #[must_use]
    pub fn at(self, span: Span) -> Self {
        Self {
            span: Some(span),
            ..self
        }
    }

    /// With words under the marked text.
    #[must_use]
    pub fn label(self, label: impl Into<String>) -> Self {
        Self {
            label: Some(label.into()),
            ..self
        }
    }

    /// With advice.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        Self {
            help: Some(help.into()),
            ..self
        }
    }

    /// Without the source line, which may hold a secret in clear text.
    #[must_use]
    pub fn concealed(self) -> Self {
        Self {
            conceal: true,
            ..self
        }
    }

    /// With another place that explains it.
    #[must_use]
    pub fn related(mut self, file: &Arc<str>, span: Span, label: impl Into<String>) -> Self {
        self.related.push(Related {
            file: Arc::clone(file),
            span,
            label: label.into(),
        });
        self
    }

    /// `file:line:column`, as much of it as is known.
    #[must_use]
    pub fn place(&self) -> String {
        match self.span {
            Some(span) => format!("{}:{}:{}", self.file, span.line, span.column),
            None => self.file.to_string(),
        }
    }
}

/// Sorts findings by file and place and drops exact repetitions, so that output is stable.
pub fn sort(findings: &mut Vec<Diagnostic>) {
    findings.sort_by(|a, b| {
        (&a.file, a.span, a.code, &a.message).cmp(&(&b.file, b.span, b.code, &b.message))
    });
    findings.dedup();
}

/// The texts that spans point into, by file.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    texts: BTreeMap<Arc<str>, Arc<str>>,
}

impl Sources {
    /// Remembers the text of a file.
    pub fn insert(&mut self, file: Arc<str>, text: Arc<str>) {
        self.texts.insert(file, text);
    }

    /// The text of a file that was read.
    #[must_use]
    pub fn get(&self, file: &str) -> Option<&str> {
        self.texts.get(file).map(AsRef::as_ref)
    }

    /// One line of a file, from 1, without its line break.
    #[must_use]
    pub fn line(&self, file: &str, line: usize) -> Option<&str> {
        self.get(file)?.lines().nth(line.checked_sub(1)?)
    }
}
