//! What is written onto a commit.

use serde::{Deserialize, Serialize};

use crate::id::CommitId;

/// State of one context on one commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum VerdictState {
    /// Work goes on, or waits.
    Pending,
    /// True to the commit.
    Success,
    /// Not true to the commit, and somebody has to look.
    Failure,
    /// Not judged: superseded, or trueup itself failed.
    Error,
}

impl VerdictState {
    /// The word of commit-status APIs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Error => "error",
        }
    }
    /// No later word is owed.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Pending)
    }
}

/// Longest description: GitHub answers 422 to a longer one.
pub const DESCRIPTION_CHARS_MAX: usize = 140;

/// One word on one commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// The commit.
    pub commit: CommitId,
    /// `trueup/<fleet>/…`.
    pub context: String,
    /// The state.
    pub state: VerdictState,
    /// The cause first; at most [`DESCRIPTION_CHARS_MAX`] characters.
    pub description: String,
}

impl Verdict {
    /// A verdict whose description is cut on a character boundary.
    pub fn new(
        commit: CommitId,
        context: impl Into<String>,
        state: VerdictState,
        description: &str,
    ) -> Self {
        Self {
            commit,
            context: context.into(),
            state,
            description: cut(description, DESCRIPTION_CHARS_MAX),
        }
    }
}

/// The first line of `text`, at most `max` characters; what is cut ends in `…`.
pub fn cut(text: &str, max: usize) -> String {
    let line = text.lines().next().unwrap_or("").trim_end();
    if line.chars().count() <= max {
        return line.to_owned();
    }
    let mut out: String = line.chars().take(max.saturating_sub(1)).collect();
    out.push('…');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_cut_on_a_character_boundary() {
        let long = "ä".repeat(200);
        let short = cut(&long, DESCRIPTION_CHARS_MAX);
        assert_eq!(short.chars().count(), 140);
        assert!(short.ends_with('…'));
        assert_eq!(cut("plain\nsecond line", 140), "plain");
    }
}
