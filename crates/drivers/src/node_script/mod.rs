//! The node script and how one speaks with it: what is sent, how replies are
//! framed, and the calls that every [`NodeShell`](trueup_model::port::NodeShell)
//! makes with it. How the script gets to the machine is not known here.

mod calls;
mod exec;
mod intent;
mod probe;
mod reply;
mod words;

pub(crate) use calls::{job, probe, read_secret, stage, start, sweep};
pub(crate) use exec::{Call, Exec, Output};

/// The script, sent whole as the command of every call. It stays below 60 KiB,
/// since Linux bounds one argument to 128 KiB (`MAX_ARG_STRLEN`).
pub(crate) const SCRIPT: &str = include_str!("trueup-node.sh");

/// What the script calls itself in its first line of reply.
pub(crate) const SCRIPT_VERSION: &str = "1";

/// The remote command for `sh`: one argument that any login shell passes on
/// whole. `'` is the only character that ends a single-quoted word.
pub(crate) fn command_line(sudo: bool, args: &[&str]) -> String {
    let mut line = String::with_capacity(SCRIPT.len() + 1024);
    line.push_str(if sudo { "sudo -n sh -c " } else { "sh -c " });
    push_quoted(&mut line, SCRIPT);
    line.push_str(" trueup");
    for arg in args {
        line.push(' ');
        push_quoted(&mut line, arg);
    }
    line
}

fn push_quoted(line: &mut String, text: &str) {
    line.push('\'');
    line.push_str(&text.replace('\'', r"'\''"));
    line.push('\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_fits_its_bounds() {
        assert!(SCRIPT.len() < 60 * 1024, "{} bytes", SCRIPT.len());
        assert!(SCRIPT.contains(&format!("\nversion={SCRIPT_VERSION}\n")));
        // fish takes these for escapes within single quotes.
        assert!(!SCRIPT.contains(r"\\") && !SCRIPT.contains(r"\'"));
        assert!(!SCRIPT.contains("eval "), "a value must never become code");
    }

    #[test]
    fn quoting_keeps_every_character() {
        let line = command_line(true, &["probe", "it's $(x) `y` \"z\" \\"]);
        assert!(line.starts_with("sudo -n sh -c '"));
        assert!(line.ends_with(r#" trueup 'probe' 'it'\''s $(x) `y` "z" \'"#));
    }
}
