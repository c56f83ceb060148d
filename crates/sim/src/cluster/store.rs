//! Objects as etcd keeps them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::kind::kind_of_group;
use super::{Cluster, text};

/// Group, kind, namespace, name.
pub(crate) type Key = (String, String, String, String);

/// An object and what its controllers remember.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub(crate) json: Value,
    /// When its spec last changed.
    pub(crate) changed_ms: i64,
}

/// The key of an object.
pub(crate) fn key_of(json: &Value) -> Key {
    (
        kind_of_group(text(json, "/apiVersion")).to_owned(),
        text(json, "/kind").to_owned(),
        text(json, "/metadata/namespace").to_owned(),
        text(json, "/metadata/name").to_owned(),
    )
}

/// A time as Kubernetes writes it.
pub(crate) fn time(now_ms: i64) -> String {
    let second = Timestamp::from_second(now_ms / 1000).unwrap_or(Timestamp::UNIX_EPOCH);
    second.to_string()
}

/// Saved as a list: keys of JSON are texts.
pub(crate) mod as_list {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::{BTreeMap, Key, Stored, key_of};

    pub(crate) fn serialize<S: Serializer>(
        objects: &BTreeMap<Key, Stored>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(objects.values())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<Key, Stored>, D::Error> {
        let list = Vec::<Stored>::deserialize(deserializer)?;
        let keyed = list
            .into_iter()
            .map(|stored| (key_of(&stored.json), stored));
        Ok(keyed.collect())
    }
}

impl Cluster {
    pub(crate) fn create_namespace(&mut self, name: &str, uid: String) {
        let json = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "uid": uid},
        });
        self.put(json, 0);
    }

    pub(crate) fn has_namespace(&self, name: &str) -> bool {
        self.objects
            .contains_key(&("".into(), "Namespace".into(), "".into(), name.to_owned()))
    }

    /// Store an object; a new one gets its creation time. Nothing that is equal is
    /// written. The version that stands afterwards.
    pub(crate) fn put(&mut self, mut json: Value, now_ms: i64) -> Value {
        super::defaults::fill(&mut json);
        let key = key_of(&json);
        let before = self.objects.get(&key);
        if let Some(before) = before
            && same(&before.json, &json)
        {
            return before.json.clone();
        }
        let respecified = before.is_none_or(|before| spec_of(&before.json) != spec_of(&json));
        let generation = before.map_or(0, |before| number(&before.json, "/metadata/generation"));
        let changed_ms = match before {
            Some(before) if !respecified => before.changed_ms,
            _ => now_ms,
        };
        let created = before.map_or_else(
            || time(now_ms),
            |before| text(&before.json, "/metadata/creationTimestamp").to_owned(),
        );
        self.revision += 1;
        if let Some(metadata) = json.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("creationTimestamp".to_owned(), created.into());
            metadata.insert(
                "resourceVersion".to_owned(),
                self.revision.to_string().into(),
            );
            if has_generation(&key.1) {
                let generation = generation + i64::from(respecified);
                metadata.insert("generation".to_owned(), generation.into());
            }
        }
        let stored = Stored {
            json: json.clone(),
            changed_ms,
        };
        self.objects.insert(key, stored);
        json
    }

    /// Take an object away, and with a namespace everything in it.
    pub(crate) fn take(&mut self, key: &Key) {
        if self.objects.remove(key).is_none() {
            return;
        }
        self.revision += 1;
        if key.1 == "Namespace" && key.0.is_empty() {
            self.objects.retain(|other, _| other.2 != key.3);
        }
    }
}

fn has_generation(kind: &str) -> bool {
    !matches!(
        kind,
        "ConfigMap" | "Secret" | "Namespace" | "Node" | "Service" | "ServiceAccount"
    )
}

fn number(json: &Value, pointer: &str) -> i64 {
    json.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

/// What is not metadata and not a status.
fn spec_of(json: &Value) -> Vec<(&String, &Value)> {
    let mut fields: Vec<_> = json
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| !matches!(key.as_str(), "metadata" | "status"))
        .collect();
    fields.sort_by_key(|(key, _)| *key);
    fields
}

/// Equal but for times of managed fields and the version.
fn same(one: &Value, other: &Value) -> bool {
    let strip = |json: &Value| {
        let mut json = json.clone();
        if let Some(metadata) = json.get_mut("metadata").and_then(Value::as_object_mut) {
            for key in ["resourceVersion", "creationTimestamp", "generation"] {
                metadata.shift_remove(key);
            }
            let entries = metadata
                .get_mut("managedFields")
                .and_then(Value::as_array_mut);
            for entry in entries.into_iter().flatten() {
                if let Some(entry) = entry.as_object_mut() {
                    entry.shift_remove("time");
                }
            }
        }
        json
    };
    strip(one) == strip(other)
}
