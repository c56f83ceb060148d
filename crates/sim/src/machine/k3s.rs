//! k3s on a machine: what its process reads when it starts. Source of the behaviour: k3s 1.36 as `tests/k3s-double/BEHAVIOUR.md`
//! has it.

use std::collections::BTreeMap;

use serde_json::Value;
use trueup_model::id::Digest;

use super::probe::BINARY;
use super::{Active, Machine};
use crate::release::version_of;

/// Its units: of a server and of an agent.
pub(crate) const SERVICES: [&str; 2] = ["k3s.service", "k3s-agent.service"];
const CONFIG: &str = "/etc/rancher/k3s/config.yaml";
/// Options that must be the same on every server; compared when one joins
/// (daemons/config/types.go `CriticalControlArgs`).
const CRITICAL: &[&str] = &[
    "cluster-cidr",
    "service-cidr",
    "cluster-dns",
    "cluster-domain",
    "disable-cloud-controller",
    "disable-helm-controller",
    "disable-network-policy",
    "secrets-encryption",
    "flannel-backend",
    "egress-selector-mode",
];

/// What a process starts with.
pub(crate) struct Start {
    pub(crate) server: bool,
    pub(crate) version: String,
    pub(crate) options: BTreeMap<String, Value>,
    pub(crate) token: Digest,
}

impl Start {
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.options.get(key).and_then(Value::as_str)
    }

    pub(crate) fn list(&self, key: &str) -> Vec<String> {
        match self.options.get(key) {
            Some(Value::Array(items)) => items
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            Some(Value::String(one)) => vec![one.clone()],
            _ => Vec::new(),
        }
    }

    pub(crate) fn critical(&self) -> BTreeMap<String, String> {
        CRITICAL
            .iter()
            .filter_map(|key| Some(((*key).to_owned(), self.options.get(*key)?.to_string())))
            .collect()
    }
}

impl Machine {
    /// k3s' effective options: `config.yaml`, then `config.yaml.d` by name; a later key
    /// replaces, `key+` appends (configfilearg/parser.go).
    pub(crate) fn k3s_options(&self) -> Result<BTreeMap<String, Value>, String> {
        let mut all: BTreeMap<String, Value> = BTreeMap::new();
        let main = self
            .files
            .get(CONFIG)
            .map(|file| (CONFIG, file.content.bytes()));
        for (path, bytes) in main.into_iter().chain(self.dropins()) {
            let text = String::from_utf8_lossy(bytes);
            let options: BTreeMap<String, Value> = serde_saphyr::from_str(&text)
                .map_err(|error| format!("failed to parse {path}: {error}"))?;
            for (key, value) in options {
                match key.strip_suffix('+') {
                    None => drop(all.insert(key, value)),
                    Some(base) => append(&mut all, base, value),
                }
            }
        }
        Ok(all)
    }

    pub(crate) fn k3s_start(&self, service: &str) -> Result<Start, String> {
        let binary = self.files.get(BINARY).map(|file| file.content.bytes());
        let version = binary
            .and_then(version_of)
            .ok_or_else(|| format!("Failed at step EXEC spawning {BINARY}: Exec format error"))?;
        let options = self.k3s_options()?;
        let token = match (options.get("token"), options.get("token-file")) {
            (Some(Value::String(token)), _) => Digest::of(token.as_bytes()),
            (_, Some(Value::String(path))) => {
                let file = self.files.get(path);
                let bytes = file.map(|file| file.content.bytes().trim_ascii());
                Digest::of(bytes.ok_or_else(|| format!("open {path}: no such file or directory"))?)
            }
            _ => return Err("--token is required".to_owned()),
        };
        Ok(Start {
            server: SERVICES.first() == Some(&service),
            version: version.to_owned(),
            options,
            token,
        })
    }

    /// The k3s service that is up on this machine.
    pub(crate) fn k3s_up(&self) -> bool {
        self.power
            && SERVICES
                .iter()
                .any(|name| self.unit(name).active == Active::Up)
    }
}

fn append(all: &mut BTreeMap<String, Value>, key: &str, value: Value) {
    let list = |value| match value {
        Value::Array(items) => items,
        other => vec![other],
    };
    let mut items = all.remove(key).map(list).unwrap_or_default();
    items.extend(list(value));
    all.insert(key.to_owned(), Value::Array(items));
}
