//! Findings as text: for people, for programs, for GitHub.

mod github;
mod human;
mod json;

use trueup_model::document::{Diagnostic, Severity, Sources};

pub(crate) use github::render_github;
pub(crate) use human::render_human;
pub(crate) use json::render_json;

/// What is to be rendered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Findings<'a> {
    /// The findings, sorted.
    pub all: &'a [Diagnostic],
    /// The texts that they point into.
    pub sources: &'a Sources,
    /// What is put before every file name, so that it leads there from where the reader stands:
    /// empty, or ending with `/`.
    pub prefix: &'a str,
}

impl Findings<'_> {
    /// How many errors and warnings.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let errors = self
            .all
            .iter()
            .filter(|f| f.severity == Severity::Error)
            .count();
        (errors, self.all.len() - errors)
    }

    fn path(&self, file: &str) -> String {
        if file == "." && !self.prefix.is_empty() {
            return self.prefix.trim_end_matches('/').to_owned();
        }
        format!("{}{file}", self.prefix)
    }

    /// `2 errors, 1 warning`.
    pub(crate) fn summary(&self) -> String {
        let word = |count: usize, word: &str| {
            format!("{count} {word}{}", if count == 1 { "" } else { "s" })
        };
        match self.counts() {
            (0, 0) => "nothing found".to_owned(),
            (errors, 0) => word(errors, "error"),
            (0, warnings) => word(warnings, "warning"),
            (errors, warnings) => {
                format!("{}, {}", word(errors, "error"), word(warnings, "warning"))
            }
        }
    }
}

#[cfg(test)]
mod tests;
