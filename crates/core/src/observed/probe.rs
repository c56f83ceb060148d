//! The reply of the probe script, understood. Every text here came from a machine:
//! it is capped by the driver, and nothing of it is trusted to be well formed.

use std::collections::BTreeMap;

use trueup_model::facts::machine::{
    Datastore, FileFact, K3sBinary, K3sFact, MachineFacts, OwnerRecord, ProbeReply, Started,
    UnitFact,
};
use trueup_model::id::{Claim, Digest};

/// Why a reply is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// A line that every reply has is missing.
    #[error("the reply has no {0:?}")]
    Missing(&'static str),
    /// A line has another shape than the script writes.
    #[error("the reply's {key:?} is not understood: {value:?}")]
    Shape {
        /// The line's key.
        key: String,
        /// Its value, cut to 120 characters.
        value: String,
    },
    /// The machine runs something else than systemd.
    #[error("its init is {0:?}; trueup needs systemd")]
    Init(String),
}

/// Facts out of a reply.
pub fn parse(reply: &ProbeReply) -> Result<MachineFacts, ProbeError> {
    let mut facts = MachineFacts {
        boot: String::new(),
        machine_id: String::new(),
        hostname: String::new(),
        os: String::new(),
        now_s: 0,
        owner: None,
        files: BTreeMap::new(),
        sysctls: BTreeMap::new(),
        units: BTreeMap::new(),
        k3s: K3sFact::default(),
        free_bytes: BTreeMap::new(),
        running_jobs: Vec::new(),
    };
    let mut contents: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (key, value) in &reply.lines {
        let text = String::from_utf8_lossy(value);
        let text = text.trim_end_matches('\n');
        let (word, rest) = key.split_once(' ').unwrap_or((key, ""));
        match word {
            "boot" => facts.boot = text.to_owned(),
            "machine-id" => facts.machine_id = text.to_owned(),
            "hostname" => facts.hostname = text.to_owned(),
            "os" => facts.os = text.to_owned(),
            "init" if text != "systemd" => return Err(ProbeError::Init(text.to_owned())),
            "now" => facts.now_s = text.parse().map_err(|_| shape(key, text))?,
            "owner" => facts.owner = Some(owner(text)?),
            "file" => {
                let fact = file(text).ok_or_else(|| shape(key, text))?;
                facts.files.insert(rest.to_owned(), fact);
            }
            "content" => {
                contents.insert(rest.to_owned(), value.clone());
            }
            "sysctl" => {
                facts.sysctls.insert(rest.to_owned(), normal_sysctl(text));
            }
            "unit" => {
                facts.units.insert(rest.to_owned(), unit(text));
            }
            "k3s-binary" => {
                let (sha256, line) = text.split_once(' ').unwrap_or((text, ""));
                facts.k3s.binary = Some(K3sBinary {
                    sha256: Digest(sha256.to_owned()),
                    version: line.split_whitespace().nth(2).unwrap_or("").to_owned(),
                });
            }
            "k3s-datastore" => {
                facts.k3s.datastore = match text {
                    "etcd" => Datastore::Etcd,
                    "sqlite" => Datastore::Sqlite,
                    _ => Datastore::None,
                }
            }
            "dropin" => {
                facts.k3s.dropins.insert(rest.to_owned(), value.clone());
            }
            "k3s-started" => {
                facts.k3s.started.insert(rest.to_owned(), started(text));
            }
            "free" => {
                let bytes = text.parse().map_err(|_| shape(key, text))?;
                facts.free_bytes.insert(rest.to_owned(), bytes);
            }
            "job" if text == "running" => facts.running_jobs.push(rest.to_owned()),
            // Keys of a newer script are left alone.
            _ => {}
        }
    }
    for (path, bytes) in contents {
        if let Some(FileFact::Present { content, .. }) = facts.files.get_mut(&path) {
            *content = Some(bytes);
        }
    }
    if facts.boot.is_empty() {
        return Err(ProbeError::Missing("boot"));
    }
    if facts.machine_id.is_empty() {
        return Err(ProbeError::Missing("machine-id"));
    }
    Ok(facts)
}

fn shape(key: &str, value: &str) -> ProbeError {
    ProbeError::Shape {
        key: key.chars().take(120).collect(),
        value: value.chars().take(120).collect(),
    }
}

/// `net.ipv4.tcp_rmem` and its like are several numbers parted by tabs.
fn normal_sysctl(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn file(text: &str) -> Option<FileFact> {
    let mut words = text.split(' ');
    match words.next()? {
        "absent" => Some(FileFact::Absent),
        "other" => Some(FileFact::Other(words.next().unwrap_or("").to_owned())),
        "file" => Some(FileFact::Present {
            sha256: Digest(words.next()?.to_owned()),
            mode: format!("{:0>4}", words.next()?),
            owner: words.next()?.to_owned(),
            group: words.next()?.to_owned(),
            size: words.next()?.parse().ok()?,
            mtime_s: words.next()?.parse().ok()?,
            content: None,
        }),
        _ => None,
    }
}

fn unit(text: &str) -> UnitFact {
    let mut fact = UnitFact::default();
    for line in text.lines() {
        let Some((property, value)) = line.split_once('=') else {
            continue;
        };
        match property {
            "LoadState" => fact.load = value.to_owned(),
            "ActiveState" => fact.active = value.to_owned(),
            "SubState" => fact.sub = value.to_owned(),
            "UnitFileState" => fact.file = value.to_owned(),
            "Result" => fact.result = value.to_owned(),
            "Type" => fact.kind = value.to_owned(),
            "InvocationID" => fact.invocation = value.to_owned(),
            "ExecMainStartTimestamp" => fact.started_s = value.parse().unwrap_or(0),
            "NRestarts" => fact.restarts = value.parse().unwrap_or(0),
            "RemainAfterExit" => fact.remains = value == "yes",
            "NeedDaemonReload" => fact.needs_reload = value == "yes",
            "FragmentPath" => fact.path = value.to_owned(),
            _ => {}
        }
    }
    fact
}

fn started(text: &str) -> Started {
    let mut started = Started::default();
    for line in text.lines() {
        match line.split('\t').collect::<Vec<_>>().as_slice() {
            ["arg", word] => started.arguments.push((*word).to_owned()),
            ["env", name, value] => {
                let (name, value) = ((*name).to_owned(), (*value).to_owned());
                started.environment.insert(name, value);
            }
            // A newline or a tab in a value: the rest of it is not understood.
            _ => {}
        }
    }
    started
}

fn owner(text: &str) -> Result<OwnerRecord, ProbeError> {
    let mut record = OwnerRecord::default();
    for line in text.lines() {
        let words: Vec<&str> = line.split('\t').collect();
        match words.as_slice() {
            ["claim", holder, epoch] => {
                record.claim = Some(Claim {
                    holder: unbase64(holder).ok_or_else(|| shape("owner", line))?,
                    epoch: epoch.parse().map_err(|_| shape("owner", line))?,
                });
            }
            ["file", path, sha256, how @ ..] => {
                let path = unbase64(path).ok_or_else(|| shape("owner", line))?;
                if how.first() == Some(&"adopted") {
                    record.adopted.insert(path.clone());
                }
                record.files.insert(path, Digest((*sha256).to_owned()));
            }
            ["run", unit, invocation, inputs] => {
                record.runs.insert(
                    (*unit).to_owned(),
                    ((*invocation).to_owned(), Digest((*inputs).to_owned())),
                );
            }
            // Words of a newer trueup are kept by the script and not read here.
            _ => {}
        }
    }
    Ok(record)
}

fn unbase64(text: &str) -> Option<String> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text)
        .ok()?;
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(lines: &[(&str, &str)]) -> ProbeReply {
        let all = [("boot", "b 1"), ("machine-id", "m"), ("init", "systemd")];
        ProbeReply {
            lines: all
                .iter()
                .chain(lines)
                .map(|(k, v)| ((*k).to_owned(), v.as_bytes().to_vec()))
                .collect(),
        }
    }

    #[test]
    fn files_with_and_without_content() {
        let facts = parse(&reply(&[
            ("file /etc/a", "file abc 644 root root 3 17"),
            ("content /etc/a", "x y"),
            ("file /etc/b", "absent"),
            ("file /etc/c", "other directory"),
        ]))
        .unwrap();
        assert_eq!(
            facts.files["/etc/a"],
            FileFact::Present {
                sha256: Digest("abc".into()),
                mode: "0644".into(),
                owner: "root".into(),
                group: "root".into(),
                size: 3,
                mtime_s: 17,
                content: Some(b"x y".to_vec()),
            }
        );
        assert_eq!(facts.files["/etc/b"], FileFact::Absent);
        assert_eq!(facts.files["/etc/c"], FileFact::Other("directory".into()));
    }

    #[test]
    fn another_init_is_refused_by_name() {
        let mut lines = reply(&[]);
        lines.lines.push(("init".into(), b"init".to_vec()));
        assert_eq!(parse(&lines), Err(ProbeError::Init("init".into())));
    }

    #[test]
    fn a_reply_without_a_boot_is_no_reply() {
        assert_eq!(
            parse(&ProbeReply::default()),
            Err(ProbeError::Missing("boot"))
        );
    }

    #[test]
    fn hostile_lines_are_refused_or_left_alone() {
        for value in ["", "file", "file a b", "file a 644 r r notanumber 1", "xyz"] {
            assert!(parse(&reply(&[("file /x", value)])).is_err(), "{value:?}");
        }
        assert!(parse(&reply(&[("unknown key", "\u{1b}[31m")])).is_ok());
    }

    #[test]
    fn the_ownership_record() {
        let facts = parse(&reply(&[(
            "owner",
            "claim\taG9zdC0x\t3\nfile\tL2V0Yy9h\tabc\nrun\tk3s.service\tinv\tdef\nlater\tx\n",
        )]))
        .unwrap();
        let record = facts.owner.unwrap();
        assert_eq!(record.claim.unwrap().epoch, 3);
        assert_eq!(record.files["/etc/a"], Digest("abc".into()));
        assert_eq!(record.runs["k3s.service"].0, "inv");
    }
}
