//! `node enroll`: a machine's host key is shown before anything is sent to it; once a
//! person says that it is the right one, the machine is looked at, and its Node document
//! is written with the key pinned.

use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::json;
use trueup_core::config::load;
use trueup_core::observed::parse;
use trueup_drivers::ssh::{
    AllowList, CONNECT_LIMIT, Hop, ShownKey, SshSettings, SshShell, fingerprint, shown_key,
};
use trueup_model::document::write_yaml;
use trueup_model::facts::machine::{MachineFacts, ProbeRequest};
use trueup_model::id::{ClusterName, NodeName, ProfileName};
use trueup_model::kinds::{Connection, Role, SshConnection};
use trueup_model::port::{NodeError, NodeShell as _};
use trueup_model::tree::TreeEntry;

use super::edit::{self, Edited};
use super::fleet::{self, WorkTree};
use super::trouble::{self, Way};
use super::{file, place};
use crate::app::clock::now_s;
use crate::app::settings::Settings;
use crate::app::world;
use crate::cli::Failure;
use crate::cli::exit::Exit;

/// What a person asks for.
#[derive(Debug, Clone)]
pub(crate) struct Enroll {
    pub(crate) host: String,
    pub(crate) name: Option<NodeName>,
    pub(crate) user: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) identity: Option<String>,
    pub(crate) cluster: Option<ClusterName>,
    pub(crate) role: Option<Role>,
    pub(crate) jump: Vec<NodeName>,
    pub(crate) profiles: Vec<ProfileName>,
    pub(crate) repo: Option<Utf8PathBuf>,
}

/// A machine that has shown its key; nothing else was sent to it.
#[derive(Debug)]
pub(crate) struct Greeting {
    ask: Enroll,
    config_file: Utf8PathBuf,
    settings: Settings,
    tree: WorkTree,
    reach: SshSettings,
    way: Way,
    /// The key.
    pub(crate) key: ShownKey,
}

/// A machine that is enrolled.
#[derive(Debug)]
pub(crate) struct Enrolled {
    /// Its name.
    pub(crate) name: NodeName,
    /// Its Node document.
    pub(crate) document: Utf8PathBuf,
    /// The work tree that holds it.
    pub(crate) root: Utf8PathBuf,
    /// What was seen of it.
    pub(crate) seen: Vec<String>,
    /// Its address in `allow.addresses`.
    pub(crate) allowed: Edited,
    /// The address.
    pub(crate) address: String,
}

/// Ask a machine for its host key.
pub(crate) async fn greet(config_file: &Utf8Path, ask: Enroll) -> Result<Greeting, Failure> {
    let settings = Settings::read(config_file).map_err(|error| {
        let failure = Failure::new("TU0901", error.to_string());
        if config_file.exists() {
            failure.next(format!("{} doctor", place::command(config_file)))
        } else {
            failure.next(format!("{} init", place::making(config_file)))
        }
    })?;
    let tree = WorkTree::open(&settings, ask.repo.as_deref())?;
    let connection = SshConnection {
        address: ask.host.clone(),
        port: ask.port,
        user: ask.user.clone(),
        identity: ask.identity.clone(),
        host_keys: Vec::new(),
        jump: ask.jump.clone(),
    };
    let login = world::login(&tree.config, &settings, &connection)
        .map_err(|why| no_identity(config_file, &settings, &why))?;
    let jump = world::jumps(&tree.config, &settings, &ask.jump)
        .map_err(|why| Failure::new("TU0946", why).exit(Exit::Usage))?;
    let way = Way {
        address: ask.host.clone(),
        port: login.port,
        user: login.user.clone(),
        identity: login.identity_file.to_string(),
        config: config_file.to_string(),
    };
    known(&tree, &settings, &ask, &way).await?;
    // Who may write the host configuration says here where something may be sent.
    let mut allowed = settings.allow.addresses.clone();
    allowed.push(ask.host.clone());
    let allow = AllowList::parse(allowed.iter().map(String::as_str)).map_err(|error| {
        Failure::new("TU0906", error.to_string())
            .next("trueup node enroll with an IP address or a DNS name")
            .exit(Exit::Usage)
    })?;
    let reach = SshSettings {
        target: Hop::stranger(&ask.host, login.port, &login.user, login.identity),
        jump,
        allow: Arc::new(allow),
        connect_limit: CONNECT_LIMIT,
    };
    let key = shown_key(&reach)
        .await
        .map_err(|error| trouble::failure(&error, &way))?;
    Ok(Greeting {
        ask,
        config_file: config_file.to_owned(),
        settings,
        tree,
        reach,
        way,
        key,
    })
}

fn no_identity(config: &Utf8Path, settings: &Settings, why: &str) -> Failure {
    let names: Vec<&str> = settings.ssh.identities.keys().map(String::as_str).collect();
    let failure = Failure::new("TU0946", format!("no SSH identity to log in with: {why}"));
    match why.split_once("run: ") {
        Some((_, command)) => failure.next(command),
        None if names.is_empty() => failure.next(format!(
            "write identities: {{default: FILE}} below ssh: in {config}"
        )),
        None => failure.next(format!("--identity, with one of: {}", names.join(", "))),
    }
}

/// A machine of the Fleet at this address, or of this name: it is not enrolled twice, and
/// a key that is not the pinned one is shown beside it.
async fn known(
    tree: &WorkTree,
    settings: &Settings,
    ask: &Enroll,
    way: &Way,
) -> Result<(), Failure> {
    let nodes = &tree.config.nodes;
    let found = nodes
        .iter()
        .find_map(|(name, node)| match &node.spec.connection {
            Connection::Ssh(ssh) => {
                let port = world::login(&tree.config, settings, ssh).map_or(22, |login| login.port);
                let here = ssh.address == ask.host
                    && port == way.port
                    && (ask.jump.is_empty() || ssh.jump == ask.jump);
                here.then_some((name, node, ssh))
            }
            Connection::Local(_) => None,
        });
    let taken = ask.name.as_ref().and_then(|name| nodes.get(name));
    if let (None, Some(node)) = (&found, taken) {
        return Err(Failure::new(
            "TU0949",
            format!("{} describes another machine of that name", node.file()),
        )
        .next("trueup node enroll with another --name")
        .exit(Exit::Usage));
    }
    let Some((name, node, ssh)) = found else {
        return Ok(());
    };
    let file = tree.root.join(node.file().as_ref());
    let allow = AllowList::parse([ask.host.as_str()]).unwrap_or_default();
    let reach = world::ssh_settings(&tree.config, settings, &Arc::new(allow), ssh)
        .map_err(|why| Failure::new("TU0946", why))?;
    match SshShell::new(reach).probe(&ProbeRequest::default()).await {
        Err(NodeError::HostKey { shown, line, .. }) => {
            Err(rotated(&file, &ssh.host_keys, &shown, &line))
        }
        Ok(_) | Err(_) => Err(Failure::new(
            "TU0949",
            format!("{} is enrolled already as {name} ({file})", ask.host),
        )
        .next(format!(
            "{} plan",
            place::command(Utf8Path::new(&way.config))
        ))),
    }
}

/// A key that is not the pinned one: both are shown, and what to type if the new one is right.
fn rotated(file: &Utf8Path, pinned: &[String], shown: &str, line: &str) -> Failure {
    let prints: Vec<String> = pinned
        .iter()
        .map(|line| fingerprint(line).unwrap_or_else(|| "unreadable".to_owned()))
        .collect();
    let old = pinned.first().map_or("", String::as_str);
    Failure::new(
        "TU0950",
        format!(
            "the machine shows the host key {shown}, and {file} pins {}: somebody sits in between, or it was installed anew; go on only if its own console shows the new one (ssh-keygen -lf)",
            prints.join(", ")
        ),
    )
    .next(format!(
        "sed -i 's|{}|{line}|' {file}",
        old.trim()
    ))
    .exit(Exit::HostKey)
}

impl Greeting {
    /// `address:port`.
    pub(crate) fn place(&self) -> String {
        self.reach.target.place()
    }

    /// The key is believed: look at the machine, and write its document.
    pub(crate) async fn accept(self) -> Result<Enrolled, Failure> {
        let facts = self.look().await?;
        let name = self.name(&facts)?;
        let (document, text) = self.document(&name)?;
        let path = self.tree.root.join(&document);
        let failure = |error: std::io::Error| {
            Failure::new("TU0944", format!("cannot write {path}: {error}"))
                .next(format!("ls -ld {}", path.parent().unwrap_or(&path)))
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failure)?;
        }
        file::write_new(&path, 0o644, text.as_bytes()).map_err(failure)?;
        let allowed = if self.is_allowed() {
            Edited::Already
        } else {
            edit::allow(&self.config_file, &self.ask.host)?
        };
        Ok(Enrolled {
            seen: seen(&facts),
            name,
            document: path,
            root: self.tree.root,
            allowed,
            address: self.ask.host,
        })
    }

    fn is_allowed(&self) -> bool {
        let entries = self.settings.allow.addresses.iter().map(String::as_str);
        AllowList::parse(entries).is_ok_and(|list| {
            let address = self.ask.host.parse();
            address.map_or_else(|_| list.names(&self.ask.host), |ip| list.allows(ip))
        })
    }

    async fn look(&self) -> Result<MachineFacts, Failure> {
        let told = |error: &NodeError| trouble::failure(error, &self.way);
        let target = Hop::new(
            &self.ask.host,
            self.way.port,
            &self.way.user,
            std::slice::from_ref(&self.key.line),
            self.reach.target.identity.clone(),
        )
        .map_err(|error| Failure::new("TU0945", error.to_string()))?;
        let shell = SshShell::new(SshSettings {
            target,
            ..self.reach.clone()
        });
        let request = ProbeRequest {
            units: trueup_core::paths::UNITS.map(str::to_owned).to_vec(),
            ..ProbeRequest::default()
        };
        let reply = shell.probe(&request).await.map_err(|error| told(&error))?;
        parse(&reply).map_err(|error| {
            told(&NodeError::Lacks {
                what: error.to_string(),
            })
        })
    }

    fn name(&self, facts: &MachineFacts) -> Result<NodeName, Failure> {
        if let Some(name) = &self.ask.name {
            return Ok(name.clone());
        }
        let is_address = self.ask.host.parse::<std::net::IpAddr>().is_ok();
        let text = if is_address {
            &facts.hostname
        } else {
            &self.ask.host
        };
        place::node_name(text)
            .filter(|name| !self.tree.config.nodes.contains_key(name))
            .ok_or_else(|| {
                Failure::new(
                    "TU0949",
                    format!(
                        "the machine calls itself {text:?}, which is taken or is no name of a Node"
                    ),
                )
                .next("trueup node enroll with --name")
                .exit(Exit::Usage)
            })
    }

    /// The Node document, checked with all others before it is written.
    fn document(&self, name: &NodeName) -> Result<(String, String), Failure> {
        let ask = &self.ask;
        let mut ssh = json!({ "address": ask.host });
        let mut spec = json!({});
        let put = |to: &mut serde_json::Value, key: &str, value: serde_json::Value| {
            to[key] = value;
        };
        if let Some(port) = ask.port {
            put(&mut ssh, "port", json!(port));
        }
        if let Some(user) = &ask.user {
            put(&mut ssh, "user", json!(user));
        }
        if let Some(identity) = &ask.identity {
            put(&mut ssh, "identity", json!(identity));
        }
        put(&mut ssh, "hostKeys", json!([self.key.line]));
        if !ask.jump.is_empty() {
            put(&mut ssh, "jump", json!(ask.jump));
        }
        if let (Some(cluster), Some(role)) = (&ask.cluster, ask.role) {
            put(&mut spec, "cluster", json!(cluster));
            put(&mut spec, "role", json!(role));
        }
        if !ask.profiles.is_empty() {
            put(&mut spec, "profiles", json!(ask.profiles));
        }
        put(&mut spec, "connection", json!({ "ssh": ssh }));
        let document = json!({
            "apiVersion": "trueup.dev/v1alpha1",
            "kind": "Node",
            "metadata": { "name": name },
            "spec": spec,
        });
        let text =
            write_yaml(&document).map_err(|error| Failure::new("TU0900", error.to_string()))?;
        let folder = &self.tree.config.folder;
        let file = Utf8Path::new(folder)
            .join(format!("nodes/{name}.yaml"))
            .to_string();
        let mut tree = self.tree.tree.clone();
        if tree.entries.contains_key(&file) {
            return Err(
                Failure::new("TU0949", format!("{file} exists and is left as it is"))
                    .next("trueup node enroll with another --name")
                    .exit(Exit::Usage),
            );
        }
        tree.entries.insert(
            file.clone(),
            TreeEntry::File(text.clone().into_bytes().into()),
        );
        let loaded = load(&tree, Some(&self.settings.fleet));
        match loaded.config {
            Some(_) => Ok((file, text)),
            None => Err(fleet::broken(&self.tree.root, &loaded)),
        }
    }
}

/// More than this apart, certificates and time stamps begin to lie.
pub(super) const SKEW_MAX_S: i64 = 5;

fn seen(facts: &MachineFacts) -> Vec<String> {
    let mut lines = vec![format!(
        "{} ({}), systemd, root rights",
        facts.hostname, facts.os
    )];
    let skew = facts.now_s - now_s();
    if skew.abs() > SKEW_MAX_S {
        lines.push(format!("its clock is {skew} s off"));
    }
    if let Some(owner) = facts.owner.as_ref().and_then(|owner| owner.claim.as_ref()) {
        lines.push(format!("it is held by {owner}"));
    } else if let Some(k3s) = &facts.k3s.binary {
        lines.push(format!(
            "k3s {} is installed on it: trueup adopt takes it over",
            k3s.version
        ));
    }
    lines
}
