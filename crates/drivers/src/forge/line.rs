//! One verdict as one line of text, readable in `git log` and exactly readable back:
//! `2026-11-20T10:00:00Z trueup/home/apply/edge success: true: 5 machines`.

use jiff::Timestamp;
use trueup_model::id::CommitId;
use trueup_model::verdict::{Verdict, VerdictState};

const STATES: &[VerdictState] = &[
    VerdictState::Pending,
    VerdictState::Success,
    VerdictState::Failure,
    VerdictState::Error,
];

/// Why a verdict has no line: nobody could read it back.
pub(super) fn check(verdict: &Verdict) -> Result<(), &'static str> {
    let odd = |c: char| c.is_whitespace() || c.is_control();
    if verdict.context.is_empty() || verdict.context.contains(odd) {
        return Err("its context is empty or holds a blank");
    }
    Ok(())
}

/// The line, without a line feed. Control characters would change other lines or
/// the reader's terminal: they are escaped, and so is what escapes them.
pub(super) fn write(verdict: &Verdict, at: Timestamp) -> String {
    use std::fmt::Write as _;
    let mut line = format!(
        "{} {} {}: ",
        at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        verdict.context,
        verdict.state.as_str()
    );
    for c in verdict.description.chars() {
        if c == '\\' {
            line.push_str("\\\\");
        } else if c.is_control() {
            // Writing to a String cannot fail.
            _ = write!(line, "\\u{{{:x}}}", u32::from(c));
        } else {
            line.push(c);
        }
    }
    line
}

/// The verdict of a line; `None` for a line that somebody else wrote.
pub(super) fn read(commit: &CommitId, line: &str) -> Option<Verdict> {
    let (at, rest) = line.split_once(' ')?;
    at.parse::<Timestamp>().ok()?;
    let (context, rest) = rest.split_once(' ')?;
    let (word, rest) = rest.split_once(':')?;
    let state = STATES.iter().find(|state| state.as_str() == word)?;
    Some(Verdict {
        commit: commit.clone(),
        context: context.to_owned(),
        state: *state,
        // Editors and `git notes` strip the blank after an empty description.
        description: unescape(rest.strip_prefix(' ').unwrap_or(rest))?,
    })
}

fn unescape(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        rest = if let Some(after) = after.strip_prefix('\\') {
            out.push('\\');
            after
        } else {
            let (code, after) = after.strip_prefix("u{")?.split_once('}')?;
            out.push(char::from_u32(u32::from_str_radix(code, 16).ok()?)?);
            after
        };
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit() -> CommitId {
        "a".repeat(40).parse().unwrap()
    }

    fn verdict(description: &str) -> Verdict {
        Verdict {
            commit: commit(),
            context: "trueup/home/apply/edge".to_owned(),
            state: VerdictState::Success,
            description: description.to_owned(),
        }
    }

    #[test]
    fn a_line_reads_as_text() {
        let at = "2026-11-20T10:00:00.7Z".parse().unwrap();
        assert_eq!(
            write(&verdict("true: 5 machines, 12 objects"), at),
            "2026-11-20T10:00:00Z trueup/home/apply/edge success: true: 5 machines, 12 objects"
        );
    }

    #[test]
    fn every_description_is_read_back() {
        for text in [
            "",
            "plain",
            " blanks  around ",
            "C:\\dir\\u{41}",
            "two\nlines\r\nand\0zero\u{1b}[31mred",
            "ünïcode …",
            "pending: roll-out is off",
            "\\",
        ] {
            let line = write(&verdict(text), Timestamp::UNIX_EPOCH);
            assert!(!line.chars().any(char::is_control), "{line:?}");
            assert_eq!(read(&commit(), &line), Some(verdict(text)), "{line:?}");
        }
        let stripped = write(&verdict(""), Timestamp::UNIX_EPOCH);
        assert_eq!(read(&commit(), stripped.trim_end()), Some(verdict("")));
    }

    #[test]
    fn lines_of_others_are_passed_over() {
        for line in [
            "",
            "Reviewed-by: somebody",
            "2026-11-20T10:00:00Z",
            "2026-11-20T10:00:00Z a maybe: x",
            "yesterday a success: x",
            "2026-11-20T10:00:00Z a success: \\x",
        ] {
            assert_eq!(read(&commit(), line), None, "{line:?}");
        }
    }

    #[test]
    fn a_context_is_one_word() {
        assert!(check(&verdict("x")).is_ok());
        for context in ["", "a b", "a\nb", "a\u{1b}b"] {
            let mut odd = verdict("x");
            context.clone_into(&mut odd.context);
            assert!(check(&odd).is_err(), "{context:?}");
        }
    }
}
