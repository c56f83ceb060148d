//! `config.yaml` of one machine.

use std::collections::BTreeMap;

use serde_json::Value;
use trueup_model::document::{Resolver, parse, write_yaml};

use crate::desired::DesiredMachine;
use trueup_model::kinds::Role;

/// How a machine comes into its cluster. Once an etcd datastore is on disk k3s
/// ignores `cluster-init`, and still asks `server` at each start; so what a machine
/// began with is kept for as long as it makes sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Begin the cluster (`cluster-init: true`).
    Begin,
    /// Join through this URL.
    Join(String),
}

/// Options that trueup sets itself and that no document may name.
pub const OWN_OPTIONS: [&str; 6] = [
    "server",
    "cluster-init",
    "token",
    "token-file",
    "agent-token",
    "node-name",
];

/// All options of a machine, ours among them.
pub fn options(machine: &DesiredMachine, entry: &Entry) -> BTreeMap<String, Value> {
    let mut all = machine
        .k3s
        .as_ref()
        .map(|k3s| k3s.options.clone())
        .unwrap_or_default();
    all.insert("node-name".into(), machine.name.as_str().into());
    all.insert("token-file".into(), crate::paths::TOKEN_PATH.into());
    let is_ip = machine.address.parse::<std::net::IpAddr>().is_ok();
    if is_ip && !all.contains_key("node-ip") {
        all.insert("node-ip".into(), machine.address.clone().into());
    }
    match entry {
        Entry::Begin => all.insert("cluster-init".into(), true.into()),
        Entry::Join(url) => all.insert("server".into(), url.clone().into()),
    };
    all
}

/// Text of `config.yaml`.
pub fn text(options: &BTreeMap<String, Value>) -> String {
    let value: Value = options
        .iter()
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    // JSON is YAML too, should the writer ever refuse.
    let body = write_yaml(&value).unwrap_or_else(|_| value.to_string());
    format!("# Written by trueup; changes are put back.\n{body}")
}

/// How the machine entered, read from the configuration that it has; `None` if it
/// says nothing of it.
pub fn entry_of(text: &[u8]) -> Option<Entry> {
    let options = read_options(text)?;
    if let Some(Value::String(url)) = options.get("server") {
        return Some(Entry::Join(url.clone()));
    }
    matches!(options.get("cluster-init"), Some(Value::Bool(true))).then_some(Entry::Begin)
}

/// A k3s configuration file as options; `None` if it is no mapping.
pub fn read_options(text: &[u8]) -> Option<BTreeMap<String, Value>> {
    let text = std::str::from_utf8(text).ok()?;
    let parsed = parse(&"config.yaml".into(), text, Resolver::GoYamlV3);
    if !parsed.findings.is_empty() {
        return None;
    }
    let document = parsed.documents.first()?;
    serde_json::from_value(document.root.to_json()).ok()
}

/// URL by which others join through `machine`.
pub fn join_url(machine: &DesiredMachine) -> String {
    let host = &machine.address;
    let port = machine
        .k3s
        .as_ref()
        .and_then(|k3s| k3s.options.get("https-listen-port"))
        .and_then(Value::as_u64)
        .unwrap_or(6443);
    if host.contains(':') {
        format!("https://[{host}]:{port}")
    } else {
        format!("https://{host}:{port}")
    }
}

/// True for a machine of the control plane.
pub fn is_server(machine: &DesiredMachine) -> bool {
    machine
        .k3s
        .as_ref()
        .is_some_and(|k3s| k3s.role == Role::Server)
}
