//! trueup's own records in the cluster, as the driver of the real API lays them out:
//! ConfigMaps of the namespace `trueup-system`.

use serde_json::{Value, json};
use trueup_model::facts::cluster::{ClusterOwner, Inventory};
use trueup_model::id::AppName;

use crate::cluster::{Cluster, Key, text};

const NAMESPACE: &str = "trueup-system";
const OWNER: &str = "owner";
const PREFIX: &str = "inventory-";

fn key(name: &str) -> Key {
    (
        String::new(),
        "ConfigMap".into(),
        NAMESPACE.into(),
        name.to_owned(),
    )
}

/// A record as it stands.
fn live<'a>(cluster: &'a Cluster, name: &str) -> Option<&'a Value> {
    cluster.objects.get(&key(name)).map(|stored| &stored.json)
}

/// The owner, and why the cluster is paused.
pub(super) fn owner(cluster: &Cluster) -> (Option<ClusterOwner>, Option<String>) {
    let Some(json) = live(cluster, OWNER) else {
        return (None, None);
    };
    let pause = json.pointer("/metadata/annotations/trueup.dev~1pause");
    (
        serde_json::from_str(text(json, "/data/owner")).ok(),
        pause.and_then(Value::as_str).map(str::to_owned),
    )
}

/// Inventories with their versions.
pub(super) fn inventories(cluster: &Cluster) -> Vec<(AppName, String, Inventory)> {
    cluster
        .objects
        .iter()
        .filter(|(key, _)| key.2 == NAMESPACE && key.1 == "ConfigMap")
        .filter_map(|(key, stored)| {
            let app = key.3.strip_prefix(PREFIX)?.parse().ok()?;
            let inventory = serde_json::from_str(text(&stored.json, "/data/inventory")).ok()?;
            let version = text(&stored.json, "/metadata/resourceVersion").to_owned();
            Some((app, version, inventory))
        })
        .collect()
}

/// Version of an application's inventory; `None`: there is none.
pub(super) fn version(cluster: &Cluster, app: &AppName) -> Option<String> {
    let json = live(cluster, &format!("{PREFIX}{app}"))?;
    Some(text(json, "/metadata/resourceVersion").to_owned())
}

/// Write an inventory; its new version.
pub(super) fn write_inventory(
    cluster: &mut Cluster,
    app: &AppName,
    content: &str,
    (uid, namespace_uid): (String, String),
    now_ms: i64,
) -> String {
    let name = format!("{PREFIX}{app}");
    let labels = json!({"trueup.dev/inventory": app.as_str()});
    write(
        cluster,
        &name,
        ("inventory", content),
        labels,
        (uid, namespace_uid),
        now_ms,
    )
}

/// Write the ownership record.
pub(super) fn write_owner(
    cluster: &mut Cluster,
    content: &str,
    uids: (String, String),
    now_ms: i64,
) {
    write(cluster, OWNER, ("owner", content), json!({}), uids, now_ms);
}

fn write(
    cluster: &mut Cluster,
    name: &str,
    (field, content): (&str, &str),
    labels: Value,
    (uid, namespace_uid): (String, String),
    now_ms: i64,
) -> String {
    if !cluster.has_namespace(NAMESPACE) {
        cluster.create_namespace(NAMESPACE, namespace_uid);
    }
    let mut json = live(cluster, name).cloned().unwrap_or_else(|| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": NAMESPACE, "uid": uid, "labels": labels},
        })
    });
    if let Some(map) = json.as_object_mut() {
        map.insert("data".to_owned(), json!({field: content}));
    }
    let stands = cluster.put(json, now_ms);
    text(&stands, "/metadata/resourceVersion").to_owned()
}
