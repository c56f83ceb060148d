//! `doctor`: symptom, evidence, repair. It works when half of what it looks at is broken:
//! each check stands on as little as it can, and changes nothing.

use std::time::Duration;

use camino::Utf8Path;
use futures::future::{BoxFuture, join_all};
use serde::Serialize;
use trueup_core::config::{Config, Entry};
use trueup_core::observed::parse;
use trueup_drivers::age::Identities;
use trueup_drivers::git::{fresh, installed, shown_url};
use trueup_drivers::ssh::{AllowList, LocalShell, SshShell, fingerprint};
use trueup_drivers::store::{StateDir, StateDirError};
use trueup_model::facts::machine::ProbeRequest;
use trueup_model::id::NodeName;
use trueup_model::kinds::{self, Connection, SshConnection};
use trueup_model::port::{NodeError, NodeShell};

use super::enroll::SKEW_MAX_S;
use super::trouble::{self, Way};
use super::{fleet, place};
use crate::app::clock::now_s;
use crate::app::settings::Settings;
use crate::app::socket::{self, Client};
use crate::app::world;

/// A machine that takes longer is told as one that does not answer.
const LOOK_LIMIT: Duration = Duration::from_secs(20);

/// How one thing was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Health {
    /// As it should be.
    Well,
    /// Not as it should be.
    Ill,
    /// It could not be looked at, since something before it is ill.
    Unseen,
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Finding {
    /// What.
    pub(crate) subject: String,
    /// How.
    pub(crate) health: Health,
    /// What was seen.
    pub(crate) evidence: String,
    /// The one command that repairs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) repair: Option<String>,
}

fn well(subject: impl Into<String>, evidence: impl Into<String>) -> Finding {
    Finding {
        subject: subject.into(),
        health: Health::Well,
        evidence: evidence.into(),
        repair: None,
    }
}

fn ill(
    subject: impl Into<String>,
    evidence: impl Into<String>,
    repair: impl Into<String>,
) -> Finding {
    Finding {
        health: Health::Ill,
        repair: Some(repair.into()),
        ..well(subject, evidence)
    }
}

fn unseen(subject: impl Into<String>, evidence: impl Into<String>) -> Finding {
    Finding {
        health: Health::Unseen,
        ..well(subject, evidence)
    }
}

/// Look at this host, and at the machines of a target (a Node, a unit; `None`: all).
pub(crate) async fn look(config_file: &Utf8Path, target: Option<&str>) -> Vec<Finding> {
    let mut found = vec![git().await];
    let settings = match Settings::read(config_file) {
        Ok(settings) => settings,
        Err(error) => {
            let repair = if config_file.exists() {
                format!("${{EDITOR:-vi}} {config_file}")
            } else {
                format!("{} init", place::making(config_file))
            };
            found.push(ill("host configuration", error.to_string(), repair));
            found.push(unseen(
                "the rest",
                "the host configuration says where it is",
            ));
            return found;
        }
    };
    found.push(host_configuration(config_file));
    found.push(state_directory(&settings).await);
    for (name, path) in &settings.ssh.identities {
        found.push(ssh_identity(name, path));
    }
    found.push(repository(&settings).await);
    let config = match fleet::newest(&settings).await {
        Ok(config) => config,
        Err(failure) => {
            found.push(age(&settings, None));
            let repair = failure.next.unwrap_or_else(|| "trueup validate".to_owned());
            found.push(ill("fleet", failure.message, repair));
            return found;
        }
    };
    found.push(age(&settings, Some(&config)));
    found.push(well(
        "fleet",
        format!("{}: {} machines", config.name, config.nodes.len()),
    ));
    found.extend(machines(config_file, &settings, &config, target).await);
    found
}

async fn git() -> Finding {
    match installed().await {
        Ok(version) => well("git", version),
        Err(error) => ill("git", error.to_string(), "apt-get install -y git"),
    }
}

fn host_configuration(path: &Utf8Path) -> Finding {
    use std::os::unix::fs::PermissionsExt as _;
    let subject = "host configuration";
    let mode = std::fs::metadata(path).map_or(0, |found| found.permissions().mode() & 0o777);
    if mode & 0o022 != 0 {
        let evidence = format!("{path} can be written by others (mode {mode:04o})");
        return ill(subject, evidence, format!("chmod 600 {path}"));
    }
    well(subject, path.as_str())
}

async fn state_directory(settings: &Settings) -> Finding {
    let subject = "state directory";
    let path = &settings.state_dir;
    if let Some(client) = Client::connect(&socket::path(settings)).await {
        return well(subject, format!("{path}, held by {}", client.who()));
    }
    if !path.exists() {
        // Not made here: a look changes nothing.
        return well(subject, format!("{path} is made at the first start"));
    }
    match StateDir::open(path) {
        Ok(_) => well(subject, path.as_str()),
        Err(StateDirError::Held { by, .. }) => {
            let who = by.map_or_else(|| "another process".to_owned(), |by| by.to_string());
            well(subject, format!("{path}, held by {who}"))
        }
        Err(error) => {
            let repair = match &error {
                StateDirError::Open { .. } => format!("chmod 0700 {path}"),
                StateDirError::Foreign { us, .. } => format!("chown -R {us} {path}"),
                StateDirError::Full { .. } => format!("df -h {path}"),
                StateDirError::ReadOnly { .. } | StateDirError::Io { .. } => {
                    format!("findmnt --target {path}")
                }
                _ => format!("ls -ld {path}"),
            };
            ill(subject, error.to_string(), repair)
        }
    }
}

fn ssh_identity(name: &str, path: &Utf8Path) -> Finding {
    let subject = format!("SSH identity {name}");
    match world::identity(path) {
        Ok(identity) => well(subject, format!("{path} ({})", identity.fingerprint())),
        Err(why) => {
            let repair = match why.split_once("run: ") {
                Some((_, command)) => command.to_owned(),
                None if path.exists() => format!("ssh-keygen -y -P '' -f {path}"),
                None => format!("ssh-keygen -t ed25519 -N '' -f {path}"),
            };
            ill(subject, why, repair)
        }
    }
}

async fn repository(settings: &Settings) -> Finding {
    let (url, branch) = (&settings.repo.url, &settings.repo.branch);
    let shown = shown_url(url);
    let repair = format!("git ls-remote {shown} {branch}");
    match fresh::reachable(url, branch).await {
        Ok(true) => well("config repo", format!("{shown}, branch {branch}")),
        Ok(false) => ill(
            "config repo",
            format!("{shown} has no branch {branch}"),
            repair,
        ),
        Err(error) => ill("config repo", error.to_string(), repair),
    }
}

/// The age identity opens what the repo encrypts.
fn age(settings: &Settings, config: Option<&Config>) -> Finding {
    let subject = "age identity";
    let files: Vec<_> = config
        .into_iter()
        .flat_map(|config| config.secrets.values())
        .filter_map(|file| file.as_ref().ok())
        .collect();
    let Some(path) = &settings.age.identity_file else {
        return match files.first() {
            None => well(subject, "none, and nothing is encrypted"),
            Some(file) => ill(
                subject,
                format!("none, and {} is encrypted", file.file),
                "write age: {identityFile: FILE} into the host configuration",
            ),
        };
    };
    let identities = match Identities::load(path) {
        Ok(identities) => identities,
        Err(error) => {
            let why = match std::error::Error::source(&error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            };
            let repair = match why.split_once("run: ") {
                Some((_, command)) => command.to_owned(),
                None => format!("ls -l {path}"),
            };
            return ill(subject, why, repair);
        }
    };
    let shut = files.iter().find(|file| {
        let recipients = &file.metadata.recipients;
        !recipients
            .iter()
            .any(|recipient| identities.holds(&recipient.name))
    });
    let public = identities.public().join(", ");
    match shut {
        None => well(subject, format!("{path} ({public})")),
        Some(file) => ill(
            subject,
            format!("{} is not encrypted for this host ({public})", file.file),
            format!("add it to .sops.yaml, then: sops updatekeys {}", file.file),
        ),
    }
}

async fn machines(
    config_file: &Utf8Path,
    settings: &Settings,
    config: &Config,
    target: Option<&str>,
) -> Vec<Finding> {
    let wanted = |name: &NodeName, node: &Entry<kinds::Node>| {
        let cluster = node.spec.cluster.as_ref();
        target.is_none_or(|target| {
            target.trim_start_matches("machine/") == name.as_str()
                || cluster.is_some_and(|own| target.trim_start_matches("cluster/") == own.as_str())
        })
    };
    let allow = settings.allow.addresses.iter().map(String::as_str);
    let allow = match AllowList::parse(allow) {
        Ok(allow) => std::sync::Arc::new(allow),
        Err(error) => {
            let repair = format!("${{EDITOR:-vi}} {config_file}");
            return vec![ill("allow.addresses", error.to_string(), repair)];
        }
    };
    let mut looks: Vec<BoxFuture<'_, Finding>> = Vec::new();
    for (name, node) in config
        .nodes
        .iter()
        .filter(|(name, node)| wanted(name, node))
    {
        let subject = format!("machine {name}");
        match &node.spec.connection {
            Connection::Local(_) => looks.push(Box::pin(local(subject))),
            Connection::Ssh(ssh) => match world::ssh_settings(config, settings, &allow, ssh) {
                Ok(reach) => {
                    let way = way(config_file, config, settings, ssh);
                    looks.push(Box::pin(async move {
                        let shell = SshShell::new(reach);
                        machine(subject, &shell, &way, &ssh.host_keys).await
                    }));
                }
                Err(why) => looks.push(Box::pin(async move {
                    let repair = why.split_once("run: ");
                    let repair = repair.map(|(_, command)| command.to_owned());
                    let edit = || format!("${{EDITOR:-vi}} {config_file}");
                    let repair = repair.unwrap_or_else(edit);
                    ill(subject, why, repair)
                })),
            },
        }
    }
    if looks.is_empty() {
        return target
            .map(|target| {
                ill(
                    "target",
                    format!("the fleet has no {target}"),
                    "trueup doctor",
                )
            })
            .into_iter()
            .collect();
    }
    join_all(looks).await
}

fn way(config_file: &Utf8Path, config: &Config, settings: &Settings, ssh: &SshConnection) -> Way {
    let login = world::login(config, settings, ssh);
    let (port, user, identity) = login.map_or_else(
        |_| (22, "root".to_owned(), "IDENTITY".to_owned()),
        |login| (login.port, login.user, login.identity_file.to_string()),
    );
    Way {
        address: ssh.address.clone(),
        port,
        user,
        identity,
        config: config_file.to_string(),
    }
}

async fn local(subject: String) -> Finding {
    let way = Way {
        address: "this machine".to_owned(),
        port: 22,
        user: socket::author_of(rustix::process::geteuid().as_raw()),
        identity: String::new(),
        config: String::new(),
    };
    machine(subject, &LocalShell::new(), &way, &[]).await
}

async fn machine(subject: String, shell: &dyn NodeShell, way: &Way, pinned: &[String]) -> Finding {
    let request = ProbeRequest::default();
    let reply = match tokio::time::timeout(LOOK_LIMIT, shell.probe(&request)).await {
        Ok(reply) => reply,
        Err(_) => {
            let evidence = format!("it did not answer within {} s", LOOK_LIMIT.as_secs());
            return ill(subject, evidence, way.ssh("ssh -v") + " true");
        }
    };
    let facts = reply.and_then(|reply| {
        parse(&reply).map_err(|error| NodeError::Lacks {
            what: error.to_string(),
        })
    });
    match facts {
        Ok(facts) => {
            let skew = facts.now_s - now_s();
            if skew.abs() > SKEW_MAX_S {
                let evidence = format!("its clock is {skew} s off from this host's");
                let repair = format!("on {}: timedatectl set-ntp true", way.address);
                return ill(subject, evidence, repair);
            }
            let held = facts.owner.and_then(|owner| owner.claim);
            let held =
                held.map_or_else(|| "held by nobody".to_owned(), |by| format!("held by {by}"));
            let evidence = format!(
                "{} ({}), reached as {}, root rights, systemd, {held}",
                facts.hostname, facts.os, way.user
            );
            well(subject, evidence)
        }
        Err(error) => {
            let mut evidence = trouble::symptom(&error, way);
            if matches!(error, NodeError::HostKey { .. }) {
                let prints: Vec<String> =
                    pinned.iter().filter_map(|line| fingerprint(line)).collect();
                evidence.push_str(&format!(" (pinned: {})", prints.join(", ")));
            }
            ill(subject, evidence, trouble::repair(&error, way))
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use secrecy::SecretSlice;
    use trueup_model::facts::machine::ProbeReply;
    use trueup_model::job::{JobId, JobSpec, JobState};
    use trueup_model::port::{ByteStream, Staged};

    use super::*;

    type Answer = fn() -> Result<ProbeReply, NodeError>;

    /// A machine that answers a probe with this.
    #[derive(Debug)]
    struct Patient(Answer);

    #[async_trait]
    impl NodeShell for Patient {
        async fn probe(&self, _: &ProbeRequest) -> Result<ProbeReply, NodeError> {
            (self.0)()
        }
        async fn stage(&self, _: Staged<'_>) -> Result<(), NodeError> {
            unreachable!("a doctor writes nothing")
        }
        async fn start(&self, _: &JobSpec) -> Result<(), NodeError> {
            unreachable!("a doctor starts nothing")
        }
        async fn job(&self, _: &JobId, _: u32) -> Result<JobState, NodeError> {
            unreachable!("a doctor starts nothing")
        }
        async fn read_secret(&self, _: &str) -> Result<Option<SecretSlice<u8>>, NodeError> {
            unreachable!("a doctor reads no secret")
        }
        async fn dial(&self, _: u16) -> Result<Box<dyn ByteStream>, NodeError> {
            unreachable!("a doctor dials nothing")
        }
    }

    fn reply(behind_s: i64) -> Result<ProbeReply, NodeError> {
        let lines = [
            ("boot", "b 1".to_owned()),
            ("machine-id", "m".to_owned()),
            ("hostname", "m1".to_owned()),
            ("os", "debian 12".to_owned()),
            ("init", "systemd".to_owned()),
            ("now", (now_s() - behind_s).to_string()),
            ("k3s-datastore", "none".to_owned()),
        ];
        let lines = lines.into_iter();
        Ok(ProbeReply {
            lines: lines
                .map(|(key, value)| (key.to_owned(), value.into_bytes()))
                .collect(),
        })
    }

    fn no_sudo() -> Result<ProbeReply, NodeError> {
        Err(NodeError::Lacks {
            what: "sudo without a password for this user".to_owned(),
        })
    }

    fn other_key() -> Result<ProbeReply, NodeError> {
        Err(NodeError::HostKey {
            address: "[fd00::1]:2222".to_owned(),
            shown: "SHA256:x".to_owned(),
            line: String::new(),
        })
    }

    fn no_login() -> Result<ProbeReply, NodeError> {
        Err(NodeError::Refused {
            address: "a:22".to_owned(),
            user: "ops".to_owned(),
            why: "no".to_owned(),
        })
    }

    #[tokio::test]
    async fn each_illness_has_its_repair() {
        let table: [(Answer, &str, &str); 4] = [
            (|| reply(7200), "-7200 s off", "timedatectl set-ntp true"),
            (no_sudo, "ops@a lacks sudo", "NOPASSWD"),
            (other_key, "SHA256:x", "node enroll fd00::1"),
            (no_login, "refuses user ops", "ssh-copy-id"),
        ];
        let way = Way {
            address: "a".to_owned(),
            port: 22,
            user: "ops".to_owned(),
            identity: "/id".to_owned(),
            config: "/etc/trueup/trueup.yaml".to_owned(),
        };
        for (answer, evidence, repair) in table {
            let found = machine("machine m1".to_owned(), &Patient(answer), &way, &[]).await;
            assert_eq!(found.health, Health::Ill, "{found:?}");
            assert!(found.evidence.contains(evidence), "{found:?}");
            let told = found.repair.unwrap_or_default();
            assert!(told.contains(repair), "{told}");
        }
        let found = machine("machine m1".to_owned(), &Patient(|| reply(0)), &way, &[]).await;
        assert_eq!(found.health, Health::Well, "{found:?}");
    }
}
