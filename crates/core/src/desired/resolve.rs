//! From the checked configuration to the desired fleet: defaults filled in, profiles
//! merged, files gathered, manifests prepared.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use trueup_model::facts::object::ObjectRef;
use trueup_model::id::{CommitId, Digest, NodeName, UnitId};
use trueup_model::kinds::switches::Powers;
use trueup_model::kinds::{self, ApplicationState, Connection, FileEntry, NodeState, SecretRef};
use trueup_model::sops::SopsFile;
use trueup_model::step::{Content, FileSpec};

use super::{
    Desired, DesiredApp, DesiredCluster, DesiredK3s, DesiredMachine, DesiredObject, DesiredService,
    DesiredUnit,
};
use crate::config::{Application, Body, Config, Entry, Manifest};
use crate::drift::{Preparation, prepare};
use crate::paths::{SYSCTL_PATH, TOKEN_PATH};

/// The decrypted documents of a file, or why it cannot be opened.
pub type Opened = Result<Vec<Value>, String>;

/// What only the host can tell: the secrets. Every answer is an error in words, so
/// that one secret that cannot be had stops what uses it and nothing else.
#[derive(Clone, Copy)]
pub struct Secrets<'a> {
    /// SHA-256 of a value.
    pub digest: &'a dyn Fn(&SecretRef) -> Result<Digest, String>,
    /// The decrypted documents of a file.
    pub open: &'a dyn Fn(&Arc<SopsFile>) -> Opened,
    /// A keyed digest of bytes (HMAC) with the host's key.
    pub keyed: &'a dyn Fn(&[u8]) -> Digest,
}

impl std::fmt::Debug for Secrets<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets")
    }
}

/// The desired fleet.
pub fn resolve(config: &Config, commit: Option<CommitId>, secrets: Secrets<'_>) -> Desired {
    let mut units: BTreeMap<UnitId, DesiredUnit> = BTreeMap::new();
    let unit = |id: &UnitId| DesiredUnit {
        id: id.clone(),
        machines: BTreeMap::new(),
        cluster: None,
        apps: BTreeMap::new(),
        removed: BTreeMap::new(),
    };
    for (name, entry) in &config.clusters {
        let id = UnitId::Cluster(name.clone());
        let mut unit = unit(&id);
        let powers = powers(config, entry.spec.switches);
        unit.cluster = Some(DesiredCluster {
            name: name.clone(),
            origin: entry.origin.clone(),
            version: entry.spec.k3s.version.clone(),
            version_origin: entry.line_of("/spec/k3s/version"),
            token: token(&entry.spec.k3s.token_from, secrets),
            roll_out: entry.spec.roll_out.clone(),
            powers,
        });
        units.insert(id, unit);
    }
    for (name, entry) in &config.nodes {
        let id = match &entry.spec.cluster {
            Some(cluster) => UnitId::Cluster(cluster.clone()),
            None => UnitId::Machine(name.clone()),
        };
        let unit = units.entry(id.clone()).or_insert_with(|| unit(&id));
        if entry.spec.state == NodeState::Removed {
            unit.removed
                .insert(name.clone(), entry.line_of("/spec/state"));
            continue;
        }
        let machine = machine(config, name, entry, secrets);
        unit.machines.insert(name.clone(), machine);
    }
    for (name, application) in &config.applications {
        let id = UnitId::Cluster(application.entry.spec.cluster.clone());
        if let Some(unit) = units.get_mut(&id) {
            let app = app(config, application, name.clone(), secrets);
            unit.apps.insert(name.clone(), app);
        }
    }
    Desired {
        commit,
        fleet: config.name.clone(),
        units,
    }
}

fn powers(config: &Config, own: kinds::Switches) -> Powers {
    own.or(config.fleet.spec.switches).resolve()
}

fn token(reference: &SecretRef, secrets: Secrets<'_>) -> Result<FileSpec, String> {
    Ok(FileSpec {
        path: TOKEN_PATH.to_owned(),
        mode: "0600".to_owned(),
        owner: "root".to_owned(),
        group: "root".to_owned(),
        sha256: (secrets.digest)(reference)?,
        content: Content::Secret(reference.clone()),
    })
}

/// The address of a machine in its cluster's network.
fn address(connection: &Connection) -> String {
    match connection {
        Connection::Ssh(ssh) => ssh.address.clone(),
        Connection::Local(local) => local.address.clone().unwrap_or_default(),
    }
}

fn machine(
    config: &Config,
    name: &NodeName,
    entry: &Entry<kinds::Node>,
    secrets: Secrets<'_>,
) -> DesiredMachine {
    let spec = &entry.spec;
    let cluster = spec
        .cluster
        .as_ref()
        .and_then(|name| config.clusters.get(name));
    let above = cluster
        .map(|cluster| cluster.spec.switches)
        .unwrap_or_default();
    let mut machine = DesiredMachine {
        name: name.clone(),
        origin: entry.origin.clone(),
        address: address(&spec.connection),
        optional: spec.optional,
        powers: powers(config, spec.switches.or(above)),
        files: BTreeMap::new(),
        sysctls: BTreeMap::new(),
        units: BTreeMap::new(),
        k3s: None,
        labels: BTreeMap::new(),
        taints: spec.taints.clone(),
        broken: Vec::new(),
    };
    let defaults = &config.fleet.spec.defaults.profiles;
    for profile in defaults.iter().chain(&spec.profiles) {
        if let Some(profile) = config.profiles.get(profile) {
            merge_profile(&mut machine, profile, secrets);
        }
    }
    machine.labels.extend(spec.labels.clone());
    if !machine.sysctls.is_empty() {
        keep_sysctls(&mut machine);
    }
    if let (Some(role), Some(cluster)) = (spec.role, cluster) {
        let of_role = match role {
            kinds::Role::Server => &cluster.spec.k3s.server,
            kinds::Role::Agent => &cluster.spec.k3s.agent,
        };
        let mut options = of_role.options.clone();
        options.extend(spec.k3s_options.clone());
        machine.k3s = Some(DesiredK3s { role, options });
    }
    machine
}

fn merge_profile(
    machine: &mut DesiredMachine,
    profile: &Entry<kinds::NodeProfile>,
    secrets: Secrets<'_>,
) {
    for (index, file) in profile.spec.files.iter().enumerate() {
        let origin = profile.line_of(&format!("/spec/files/{index}"));
        match file_spec(file, secrets) {
            Ok(spec) => {
                machine.files.insert(spec.path.clone(), (spec, origin));
            }
            Err(why) => machine
                .broken
                .push((origin, format!("{}: {why}", file.path))),
        }
    }
    for (key, value) in &profile.spec.sysctls {
        let origin = profile.line_of(&format!("/spec/sysctls/{key}"));
        let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
        machine.sysctls.insert(key.clone(), (value, origin));
    }
    for (index, unit) in profile.spec.units.iter().enumerate() {
        let origin = profile.line_of(&format!("/spec/units/{index}"));
        let path = format!("/etc/systemd/system/{}", unit.name);
        if let Some(text) = &unit.content {
            let spec = text_spec(&path, text);
            machine.files.insert(path.clone(), (spec, origin.clone()));
        }
        machine.units.insert(
            unit.name.clone(),
            DesiredService {
                enabled: unit.enabled,
                state: unit.state,
                file: unit.content.as_ref().map(|_| path),
                origin,
            },
        );
    }
    machine.labels.extend(profile.spec.labels.clone());
}

fn text_spec(path: &str, text: &str) -> FileSpec {
    FileSpec {
        path: path.to_owned(),
        mode: "0644".to_owned(),
        owner: "root".to_owned(),
        group: "root".to_owned(),
        sha256: Digest::of(text.as_bytes()),
        content: Content::Text(text.to_owned()),
    }
}

fn file_spec(file: &FileEntry, secrets: Secrets<'_>) -> Result<FileSpec, String> {
    let mut spec = match (&file.content, &file.content_from) {
        (Some(text), None) => text_spec(&file.path, text),
        (None, Some(reference)) => FileSpec {
            sha256: (secrets.digest)(reference)?,
            content: Content::Secret(reference.clone()),
            mode: "0600".to_owned(),
            ..text_spec(&file.path, "")
        },
        (Some(_), Some(_)) | (None, None) => {
            return Err("exactly one of content and contentFrom".to_owned());
        }
    };
    if let Some(mode) = &file.mode {
        spec.mode = format!("{mode:0>4}");
    }
    if let Some(owner) = &file.owner {
        spec.owner.clone_from(owner);
    }
    if let Some(group) = &file.group {
        spec.group.clone_from(group);
    }
    Ok(spec)
}

/// Kernel settings stand in a file too, so that they are there after a reboot.
fn keep_sysctls(machine: &mut DesiredMachine) {
    let mut text = "# Written by trueup; changes are put back.\n".to_owned();
    for (key, (value, _)) in &machine.sysctls {
        text.push_str(&format!("{key} = {value}\n"));
    }
    let origin = machine
        .sysctls
        .values()
        .next()
        .map_or_else(|| machine.origin.clone(), |(_, origin)| origin.clone());
    let spec = text_spec(SYSCTL_PATH, &text);
    machine.files.insert(SYSCTL_PATH.to_owned(), (spec, origin));
}

fn app(
    config: &Config,
    application: &Application,
    name: trueup_model::id::AppName,
    secrets: Secrets<'_>,
) -> DesiredApp {
    let spec = &application.entry.spec;
    let above = config
        .clusters
        .get(&spec.cluster)
        .map(|cluster| cluster.spec.switches)
        .unwrap_or_default();
    let mut app = DesiredApp {
        name,
        origin: application.entry.origin.clone(),
        prune: spec.prune,
        removed: spec.state == ApplicationState::Removed,
        powers: powers(config, spec.switches.or(above)),
        objects: BTreeMap::new(),
        broken: application
            .broken
            .iter()
            .map(|broken| (broken.origin.clone(), broken.why.clone()))
            .collect(),
    };
    let namespace = spec.namespace.as_deref().unwrap_or("default");
    let crds = scopes(application);
    for manifest in &application.manifests {
        match object(&app, manifest, (namespace, &crds), secrets) {
            Ok((object, desired)) => {
                app.objects.insert(object, desired);
            }
            Err(why) => app.broken.push((manifest.origin.clone(), why)),
        }
    }
    app
}

/// Scopes of kinds that the Application itself defines: they are not on the server
/// yet when its objects are prepared.
fn scopes(application: &Application) -> BTreeMap<(String, String), bool> {
    let mut found = BTreeMap::new();
    for manifest in &application.manifests {
        let Body::Clear(json) = &manifest.body else {
            continue;
        };
        if manifest.kind != "CustomResourceDefinition" {
            continue;
        }
        let text = |pointer: &str| json.pointer(pointer).and_then(Value::as_str);
        if let (Some(group), Some(kind)) = (text("/spec/group"), text("/spec/names/kind")) {
            let cluster = text("/spec/scope") == Some("Cluster");
            found.insert((group.to_owned(), kind.to_owned()), cluster);
        }
    }
    found
}

type Scopes<'a> = (&'a str, &'a BTreeMap<(String, String), bool>);

fn object(
    app: &DesiredApp,
    manifest: &Manifest,
    (namespace, crds): Scopes<'_>,
    secrets: Secrets<'_>,
) -> Result<(ObjectRef, DesiredObject), String> {
    let (body, secret) = match &manifest.body {
        Body::Clear(json) => (json.as_ref().clone(), manifest.kind == "Secret"),
        Body::Encrypted(file, index) => {
            let mut documents = (secrets.open)(file)?;
            if *index >= documents.len() {
                return Err("the decrypted file has fewer documents".to_owned());
            }
            (documents.swap_remove(*index), true)
        }
    };
    let scoped = |api_version: &str, kind: &str| {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        crds.get(&(group.to_owned(), kind.to_owned())).copied()
    };
    let how = Preparation {
        app: &app.name,
        namespace,
        mark: None,
        cluster_scoped: &scoped,
    };
    let json = prepare(&body, how).map_err(|error| error.to_string())?;
    let text = |pointer: &str| {
        json.pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let object = ObjectRef {
        api_version: text("/apiVersion"),
        kind: text("/kind"),
        namespace: text("/metadata/namespace"),
        name: text("/metadata/name"),
    };
    let digest = (secrets.keyed)(json.to_string().as_bytes());
    let desired = DesiredObject {
        origin: manifest.origin.clone(),
        json: Arc::new(json),
        digest,
        secret,
    };
    Ok((object, desired))
}
