//! Replies of the node script: lines of `KEY<TAB>VALUE`, from `script` to `end`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use trueup_model::port::NodeError;

use super::SCRIPT_VERSION;
use super::exec::Output;

/// A whole reply: key and value, in order, without `script` and `end`.
pub(super) struct Reply {
    what: String,
    pub(super) lines: Vec<(String, Vec<u8>)>,
}

impl Reply {
    /// Reads what a successful call of `verb` said.
    pub(super) fn read(what: &str, verb: &str, stdout: &[u8]) -> Result<Self, NodeError> {
        let bad = |why: &str| NodeError::Reply {
            what: what.to_owned(),
            why: why.to_owned(),
        };
        let mut lines = Vec::new();
        let mut begun = false;
        let mut ended = false;
        for line in stdout.split(|byte| *byte == b'\n') {
            if ended {
                break;
            }
            let Some((key, value)) = split_line(line) else {
                // Before the first line, a login shell may have said something.
                if begun && !line.is_empty() {
                    return Err(bad("a line has no key"));
                }
                continue;
            };
            let value = decode(value).ok_or_else(|| bad("a value is not base64"));
            match key {
                "script" if !begun => {
                    begun = value.is_ok_and(|version| version == SCRIPT_VERSION.as_bytes());
                }
                _ if !begun => {}
                "end" => ended = value? == verb.as_bytes(),
                _ => lines.push((key.to_owned(), value?)),
            }
        }
        if ended {
            Ok(Self {
                what: what.to_owned(),
                lines,
            })
        } else {
            Err(bad(if begun {
                "it was cut off"
            } else {
                "the node script did not answer"
            }))
        }
    }

    /// The first value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        self.lines
            .iter()
            .find(|(have, _)| have == key)
            .map(|(_, value)| value.as_slice())
    }

    /// The first value of a key, as text.
    pub(super) fn text(&self, key: &str) -> Result<&str, NodeError> {
        self.get(key)
            .and_then(|value| std::str::from_utf8(value).ok())
            .ok_or_else(|| self.not_understood(&format!("it has no {key}")))
    }

    /// Takes the first value of a key out.
    pub(super) fn take(&mut self, key: &str) -> Option<Vec<u8>> {
        let at = self.lines.iter().position(|(have, _)| have == key)?;
        Some(self.lines.remove(at).1)
    }

    /// An error about this reply.
    pub(super) fn not_understood(&self, why: &str) -> NodeError {
        NodeError::Reply {
            what: self.what.clone(),
            why: why.to_owned(),
        }
    }
}

fn split_line(line: &[u8]) -> Option<(&str, &[u8])> {
    let tab = line.iter().position(|byte| *byte == b'\t')?;
    let (key, rest) = line.split_at_checked(tab)?;
    Some((std::str::from_utf8(key).ok()?, rest.get(1..)?))
}

fn decode(value: &[u8]) -> Option<Vec<u8>> {
    match value.split_first() {
        Some((b'=', plain)) => Some(plain.to_vec()),
        _ => STANDARD.decode(value).ok(),
    }
}

/// Codes of the script that the port has an error of its own for.
const NO_SPACE: i32 = 73;

/// Turns a call that ended with an exit code into an error.
pub(super) fn failure(what: &str, path: &str, output: &Output) -> NodeError {
    let said = clean(&output.stderr, super::exec::STDERR_BYTES_MAX);
    let answered = output.stdout.windows(8).any(|part| part == b"script\t=");
    if !answered && let Some(lacks) = lacking(output.code, &said) {
        return NodeError::Lacks { what: lacks };
    }
    if output.code == NO_SPACE {
        return NodeError::NoSpace {
            path: path.to_owned(),
        };
    }
    NodeError::Failed {
        what: what.to_owned(),
        code: output.code,
        output: said,
    }
}

/// What a machine lacks where the script could not even begin.
fn lacking(code: i32, said: &str) -> Option<String> {
    let first = said.lines().next().unwrap_or("");
    let sudo_refuses = [
        "a password is required",
        "not in the sudoers",
        "may not run sudo",
        "not allowed to",
    ]
    .iter()
    .any(|words| said.contains(words));
    if said.contains("sudo") && sudo_refuses {
        return Some(format!(
            "sudo without a password for this user ({first}); add a NOPASSWD rule or log in as root"
        ));
    }
    if code == 127 && said.contains("sudo") {
        return Some("sudo; install it or log in as root".to_owned());
    }
    if code == 127 {
        return Some(format!("a POSIX shell ({first})"));
    }
    None
}

/// Text for people: valid UTF-8, no control characters but newline, at most `max`
/// bytes, of which the last are kept since errors stand at the end.
pub(super) fn clean(bytes: &[u8], max: usize) -> String {
    let from = bytes.len().saturating_sub(max);
    let text = String::from_utf8_lossy(bytes.get(from..).unwrap_or(bytes));
    let kept: String = text
        .chars()
        .map(|c| if c == '\t' { ' ' } else { c })
        .filter(|c| *c == '\n' || !c.is_control())
        .collect();
    kept.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, Vec<u8>)>, String> {
        Reply::read("probe", "probe", text.as_bytes())
            .map(|reply| reply.lines)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn replies_are_whole_or_refused() {
        let good = "Welcome!\tto this\nscript\t=1\na b\t=x\ty\nc\taGk=\nd\t\nend\t=probe\nlater\n";
        assert_eq!(
            read(good).unwrap(),
            [
                ("a b".to_owned(), b"x\ty".to_vec()),
                ("c".to_owned(), b"hi".to_vec()),
                ("d".to_owned(), Vec::new()),
            ]
        );
        for (text, why) in [
            ("", "did not answer"),
            ("script\t=2\nend\t=probe\n", "did not answer"),
            ("script\t=1\na\t=b\n", "cut off"),
            ("script\t=1\na\taG", "not base64"),
            ("script\t=1\nend\t=stage\n", "cut off"),
            ("script\t=1\nnonsense\nend\t=probe\n", "no key"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }

    #[test]
    fn output_is_cleaned_and_cut() {
        assert_eq!(clean(b"a\x1b[31mb\r\n\tc\xff\n", 100), "a[31mb\n c\u{fffd}");
        assert_eq!(clean(&[b'x'; 9000], 10), "x".repeat(10));
    }

    #[test]
    fn what_is_lacking_is_named() {
        for (code, said, want) in [
            (1, "sudo: a password is required", "NOPASSWD"),
            (127, "sh: 1: sudo: not found", "install it"),
            (127, "exec: sh: not found", "POSIX shell"),
        ] {
            assert!(lacking(code, said).unwrap().contains(want), "{said}");
        }
        assert!(lacking(80, "systemd-run did not start").is_none());
    }
}
