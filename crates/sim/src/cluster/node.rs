//! Kubernetes Nodes: registered by k3s, ready as long as it runs.

use serde_json::{Map, Value, json};
use trueup_model::facts::cluster::{NodeObject, RawTaint};
use trueup_model::facts::object::FIELD_MANAGER;

use super::{Cluster, Key, Manager, text};

/// What k3s says of its machine when it starts.
#[derive(Debug)]
pub(crate) struct Registration {
    pub(crate) name: String,
    pub(crate) host: String,
    pub(crate) address: String,
    pub(crate) version: String,
    pub(crate) server: bool,
    /// `key=value`, applied at every start.
    pub(crate) labels: Vec<String>,
    /// `key=value:effect`, only at the first registration.
    pub(crate) taints: Vec<String>,
}

/// The key of a Node.
pub(crate) fn node_key(name: &str) -> Key {
    (String::new(), "Node".into(), String::new(), name.to_owned())
}

fn taint(text: &str) -> Option<Value> {
    let (name, effect) = text.rsplit_once(':')?;
    let (key, value) = name.split_once('=').unwrap_or((name, ""));
    let mut taint = json!({"key": key, "effect": effect});
    if !value.is_empty() {
        taint
            .as_object_mut()?
            .insert("value".to_owned(), value.into());
    }
    Some(taint)
}

fn labels(of: &Registration) -> Map<String, Value> {
    let mut labels = Map::new();
    let mut put = |key: &str, value: &str| drop(labels.insert(key.to_owned(), value.into()));
    put("kubernetes.io/hostname", &of.host);
    put("kubernetes.io/os", "linux");
    put("kubernetes.io/arch", "amd64");
    put("node.kubernetes.io/instance-type", "k3s");
    if of.server {
        put("node-role.kubernetes.io/control-plane", "true");
        put("node-role.kubernetes.io/etcd", "true");
    }
    for label in &of.labels {
        if let Some((key, value)) = label.split_once('=') {
            put(key, value);
        }
    }
    labels
}

impl Cluster {
    /// k3s came up on a machine: its Node is made, or brought up to date.
    pub(crate) fn register(&mut self, of: &Registration, uid: String, now_ms: i64) {
        let key = node_key(&of.name);
        if !self.objects.contains_key(&key) {
            let taints: Vec<Value> = of.taints.iter().filter_map(|text| taint(text)).collect();
            let spec = if taints.is_empty() {
                json!({})
            } else {
                json!({"taints": taints})
            };
            let node = json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": {"name": of.name, "uid": uid},
                "spec": spec,
            });
            self.put(node, now_ms);
        }
        self.update(&key, Manager::updating("k3s", None), now_ms, |node| {
            if let Some(metadata) = node.get_mut("metadata").and_then(Value::as_object_mut) {
                let live = metadata.entry("labels").or_insert_with(|| json!({}));
                if let Some(live) = live.as_object_mut() {
                    live.extend(labels(of));
                }
            }
        });
        let status = json!({
            "addresses": [{"type": "InternalIP", "address": of.address}],
            "nodeInfo": {"kubeletVersion": of.version},
        });
        self.set_status(&key, &status, now_ms);
    }

    /// Conditions of the Node of a host.
    pub(crate) fn set_conditions(&mut self, host: &str, ready: bool, voter: bool, now_ms: i64) {
        let key = self
            .objects
            .iter()
            .filter(|(key, _)| key.1 == "Node" && key.0.is_empty())
            .find(|(_, stored)| {
                let labels = stored.json.pointer("/metadata/labels");
                labels
                    .and_then(|labels| labels.get("kubernetes.io/hostname"))
                    .and_then(Value::as_str)
                    == Some(host)
            })
            .map(|(key, _)| key.clone());
        let Some(key) = key else {
            return;
        };
        let word = if ready { "True" } else { "Unknown" };
        let mut conditions = vec![json!({"type": "Ready", "status": word})];
        if voter {
            conditions.push(json!({"type": "EtcdIsVoter", "status": "True"}));
        }
        self.set_status(&key, &json!({"conditions": conditions}), now_ms);
    }

    /// Lay fields over a status; nothing is written where they stand already.
    pub(crate) fn set_status(&mut self, key: &Key, fields: &Value, now_ms: i64) {
        let stands = self.objects.get(key).is_some_and(|stored| {
            let status = stored.json.get("status");
            fields
                .as_object()
                .into_iter()
                .flatten()
                .all(|(name, value)| status.and_then(|status| status.get(name)) == Some(value))
        });
        if stands {
            return;
        }
        self.update(
            key,
            Manager::updating("k3s", Some("status")),
            now_ms,
            |object| {
                if let Some(object) = object.as_object_mut() {
                    let status = object.entry("status").or_insert_with(|| json!({}));
                    if let (Some(status), Some(fields)) =
                        (status.as_object_mut(), fields.as_object())
                    {
                        status.extend(fields.clone());
                    }
                }
            },
        );
    }
}

/// A Node as the model has it.
pub(crate) fn fact_of(json: &Value) -> NodeObject {
    let texts = |pointer: &str| {
        let map = json.pointer(pointer).and_then(Value::as_object);
        map.into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect()
    };
    let condition = |kind: &str| {
        let list = json
            .pointer("/status/conditions")
            .and_then(Value::as_array)?;
        let found = list
            .iter()
            .find(|condition| text(condition, "/type") == kind)?;
        Some(text(found, "/status") == "True")
    };
    let taints = json.pointer("/spec/taints").and_then(Value::as_array);
    NodeObject {
        uid: text(json, "/metadata/uid").to_owned(),
        ready: condition("Ready").unwrap_or(false),
        unschedulable: json.pointer("/spec/unschedulable") == Some(&Value::Bool(true)),
        labels: texts("/metadata/labels"),
        annotations: texts("/metadata/annotations"),
        taints: taints
            .into_iter()
            .flatten()
            .filter_map(|taint| serde_json::from_value::<RawTaint>(taint.clone()).ok())
            .collect(),
        kubelet_version: text(json, "/status/nodeInfo/kubeletVersion").to_owned(),
        etcd_voter: condition("EtcdIsVoter"),
        owned_labels: owned_labels(json),
    }
}

fn owned_labels(json: &Value) -> Vec<String> {
    let entries = json
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array);
    let mut keys: Vec<String> = entries
        .into_iter()
        .flatten()
        .filter(|entry| {
            text(entry, "/manager") == FIELD_MANAGER && text(entry, "/operation") == "Apply"
        })
        .filter_map(|entry| entry.pointer("/fieldsV1/f:metadata/f:labels")?.as_object())
        .flat_map(|labels| labels.keys())
        .filter_map(|key| key.strip_prefix("f:").map(str::to_owned))
        .collect();
    keys.sort();
    keys
}
