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

/// The script, sent whole with every call. It stays below 60 KiB, since Linux bounds
/// one argument to 128 KiB (`MAX_ARG_STRLEN`).
/// Every part knows those before it; `main` does what is asked for, and must be last.
pub(crate) const SCRIPT: &str = concat!(
    include_str!("script/base.sh"),
    include_str!("script/owner.sh"),
    include_str!("script/probe.sh"),
    include_str!("script/stage.sh"),
    include_str!("script/job.sh"),
    include_str!("script/operation.sh"),
    include_str!("script/main.sh"),
);

/// What the script calls itself in its first line of reply.
pub(crate) const SCRIPT_VERSION: &str = "1";

/// What `sh -c` runs: a shell that takes the script from the beginning of stdin,
/// where the call's own input follows. Given as an argument, sudo would write the
/// whole script into the system's log, some 25 lines at each look. `head -c` reads
/// no byte too many. A script that was cut off does nothing: what it does comes last.
pub(crate) fn loader() -> String {
    let size = SCRIPT.len();
    format!(r#"exec sh -c "$(head -c {size})" trueup "$@""#)
}

/// The remote command of a call.
pub(crate) fn command_line(sudo: bool, args: &[&str]) -> String {
    let sudo = if sudo { "sudo -n " } else { "" };
    let mut line = format!("{sudo}sh -c '{}' trueup", loader());
    for arg in args {
        line.push_str(" '");
        // `'` is the only character that ends a single-quoted word.
        line.push_str(&arg.replace('\'', r"'\''"));
        line.push('\'');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_fits_its_bounds() {
        assert!(SCRIPT.len() < 60 * 1024, "{} bytes", SCRIPT.len());
        assert!(SCRIPT.contains(&format!("\nversion={SCRIPT_VERSION}\n")));
        // What it does must come last: a script that was cut off must do nothing.
        let last = SCRIPT.rsplit("\n}\n").next().unwrap();
        assert!(last.starts_with("\nverb=${1:-}\ncase $verb in\n"), "{last}");
        assert!(!SCRIPT.contains("eval "), "a value must never become code");
    }

    #[test]
    fn secret_arguments_leave_as_digests() {
        let functions = SCRIPT.rsplit_once("\nverb=").unwrap().0;
        let given = "/usr/local/bin/k3s server --token canary -t canary -t=canary \
            --agent-token=canary --vpn-auth name=t,joinKey=canary --token-file /a --cluster-init \
            --datastore-endpoint=mysql://u:canary@h --etcd-s3-secret-key canary --tls-san x";
        let script = format!("{functions}\nstarted_arguments '{given}'");
        let end = std::process::Command::new("sh")
            .args(["-c", &script])
            .output()
            .unwrap();
        let text = String::from_utf8(end.stdout).unwrap();
        assert!(!text.contains("canary"), "{text}");
        for word in ["--token-file", "/a", "--cluster-init", "--tls-san", "x"] {
            assert!(text.contains(&format!("arg\t{word}\n")), "{word}: {text}");
        }
    }

    #[test]
    fn quoting_keeps_every_character() {
        let line = command_line(true, &["probe", "it's $(x) `y` \"z\" \\"]);
        assert!(line.starts_with("sudo -n sh -c 'exec sh -c"), "{line}");
        assert!(
            line.ends_with(r#" trueup 'probe' 'it'\''s $(x) `y` "z" \'"#),
            "{line}"
        );
    }
}
