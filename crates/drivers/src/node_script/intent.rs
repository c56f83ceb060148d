//! Intent: what a job is asked to do, in the script's lines.

use trueup_model::job::{JobSpec, Operation};

use super::SCRIPT;
use super::words::{self, BadWord};

/// What goes to the script's stdin for `start`: the intent, an empty line, and
/// the script, of which the job keeps a copy.
pub(super) fn request(job: &JobSpec) -> Result<String, BadWord> {
    let mut text = format!("intent\t{}\n", job.intent());
    text.push_str(&format!(
        "claim\t{}\t{}\t{}\n",
        words::encode(words::holder(&job.claim.holder)?),
        words::epoch(job.claim.epoch)?,
        if job.take_over { "take-over" } else { "keep" },
    ));
    for operation in &job.operations {
        text.push_str(&line(operation)?);
        text.push('\n');
    }
    text.push('\n');
    text.push_str(SCRIPT);
    Ok(text)
}

fn line(operation: &Operation) -> Result<String, BadWord> {
    let path = |path: &str| words::file_path(path).map(words::encode);
    Ok(match operation {
        Operation::InstallFile {
            path: file,
            sha256,
            mode,
            owner,
            group,
        } => format!(
            "install\t{}\t{}\t{}\t{}\t{}",
            path(file)?,
            words::digest(&sha256.0)?,
            words::mode(mode)?,
            words::account(owner)?,
            words::account(group)?,
        ),
        Operation::AdoptFile { path: file, sha256 } => {
            format!("adopt\t{}\t{}", path(file)?, words::digest(&sha256.0)?)
        }
        Operation::Unchanged { path: file, sha256 } => {
            format!("same\t{}\t{}", path(file)?, words::digest(&sha256.0)?)
        }
        Operation::RemoveFile { path: file } => format!("remove\t{}", path(file)?),
        Operation::Sysctl { key, value } => format!(
            "sysctl\t{}\t{}",
            words::sysctl_path(key)?,
            words::encode(words::sysctl_value(value)?),
        ),
        Operation::DaemonReload => "reload".to_owned(),
        Operation::Systemctl { verb, unit } => {
            format!("systemctl\t{}\t{}", verb.as_str(), words::unit(unit)?)
        }
        Operation::RecordRun { unit, inputs } => {
            format!(
                "record\t{}\t{}",
                words::unit(unit)?,
                words::digest(&inputs.0)?
            )
        }
    })
}

#[cfg(test)]
mod tests {
    use trueup_model::id::{Claim, Digest};
    use trueup_model::job::JobId;

    use super::*;

    fn spec(operations: Vec<Operation>) -> JobSpec {
        JobSpec {
            id: JobId::new(&Digest::of(b"step"), 1, 1),
            claim: Claim {
                holder: "lab\there".replace('\t', " "),
                epoch: 3,
            },
            take_over: false,
            operations,
            timeout_s: 60,
        }
    }

    #[test]
    fn one_line_an_operation() {
        let digest = Digest::of(b"x");
        let text = request(&spec(vec![
            Operation::InstallFile {
                path: "/etc/it's".to_owned(),
                sha256: digest.clone(),
                mode: "0644".to_owned(),
                owner: "root".to_owned(),
                group: "root".to_owned(),
            },
            Operation::Sysctl {
                key: "net.core.somaxconn".to_owned(),
                value: "5000".to_owned(),
            },
        ]))
        .unwrap();
        let intent: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).collect();
        assert_eq!(intent.len(), 4);
        assert_eq!(intent[1], "claim\tbGFiIGhlcmU=\t3\tkeep");
        assert_eq!(
            intent[2],
            format!("install\tL2V0Yy9pdCdz\t{digest}\t0644\troot\troot")
        );
        assert_eq!(intent[3], "sysctl\tnet/core/somaxconn\tNTAwMA==");
        assert!(text.ends_with(SCRIPT));
    }

    #[test]
    fn nothing_doubtful_is_sent() {
        for operation in [
            Operation::RemoveFile {
                path: "etc/x".to_owned(),
            },
            Operation::RemoveFile {
                path: "/etc/x\ny".to_owned(),
            },
            Operation::RecordRun {
                unit: "x;reboot".to_owned(),
                inputs: Digest::of(b""),
            },
        ] {
            assert!(
                request(&spec(vec![operation.clone()])).is_err(),
                "{operation:?}"
            );
        }
    }
}
