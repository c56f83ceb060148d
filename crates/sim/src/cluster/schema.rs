//! What of Kubernetes' schema server-side apply needs: which lists are maps in truth,
//! by which keys, and which maps are one value (`x-kubernetes-list-type`,
//! `x-kubernetes-map-type` of the 1.36 API). Known by the name of the field, which is
//! enough for the built-in kinds.

use serde_json::{Map, Value};

/// A key of an item, and its value where the item has none.
type ItemKey = (&'static str, Option<&'static str>);

/// Lists whose items are told apart by keys; a key that is missing has this value.
const KEYED: &[(&str, &[ItemKey])] = &[
    ("containers", &[("name", None)]),
    ("initContainers", &[("name", None)]),
    ("ephemeralContainers", &[("name", None)]),
    ("env", &[("name", None)]),
    ("volumes", &[("name", None)]),
    ("volumeMounts", &[("mountPath", None)]),
    ("volumeDevices", &[("devicePath", None)]),
    ("imagePullSecrets", &[("name", None)]),
    ("hostAliases", &[("ip", None)]),
    (
        "topologySpreadConstraints",
        &[("topologyKey", None), ("whenUnsatisfiable", None)],
    ),
    ("ownerReferences", &[("uid", None)]),
    ("conditions", &[("type", None)]),
    ("secrets", &[("name", None)]),
];
/// Lists that are sets.
const SETS: &[&str] = &["finalizers", "externalIPs"];
/// Maps that are one value.
const ATOMIC: &[&str] = &[
    "selector",
    "labelSelector",
    "nodeSelector",
    "secretKeyRef",
    "configMapKeyRef",
    "fieldRef",
    "resourceFieldRef",
    "podSelector",
    "namespaceSelector",
    "roleRef",
    "claimRef",
];

/// How a list is merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Items {
    /// As one value.
    Atomic,
    /// By the values of these keys.
    Keyed(Vec<ItemKey>),
    /// Each item for itself.
    Set,
}

/// How the list of this field is merged.
pub(crate) fn items(field: &str, list: &[Value]) -> Items {
    if field == "ports" {
        // Of a container by containerPort, of a Service by port; both with the protocol.
        let container = list.iter().any(|item| item.get("containerPort").is_some());
        let service = list
            .iter()
            .all(|item| item.get("port").is_some_and(Value::is_number));
        return match (container, service && !list.is_empty()) {
            (true, _) => Items::Keyed(vec![("containerPort", None), ("protocol", Some("TCP"))]),
            (false, true) => Items::Keyed(vec![("port", None), ("protocol", Some("TCP"))]),
            (false, false) => Items::Atomic,
        };
    }
    if SETS.contains(&field) {
        return Items::Set;
    }
    let keys = KEYED.iter().find(|(name, _)| *name == field);
    match keys {
        Some((_, keys)) if list.iter().all(Value::is_object) => Items::Keyed(keys.to_vec()),
        Some(_) | None => Items::Atomic,
    }
}

/// A map that is merged as one value.
pub(crate) fn is_atomic(field: &str) -> bool {
    ATOMIC.contains(&field)
}

/// The keys of an item, as `fieldsV1` writes them after `k:`.
pub(crate) fn key_of(keys: &[ItemKey], item: &Value) -> String {
    let mut sorted: Vec<_> = keys.to_vec();
    sorted.sort_unstable();
    let map: Map<String, Value> = sorted
        .into_iter()
        .filter_map(|(key, default)| {
            let value = item
                .get(key)
                .cloned()
                .or_else(|| default.map(Value::from))?;
            Some((key.to_owned(), value))
        })
        .collect();
    Value::Object(map).to_string()
}
