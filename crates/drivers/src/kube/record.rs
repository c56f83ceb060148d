//! What trueup writes down in a cluster: one ConfigMap for each Application's
//! inventory and one for the ownership of the cluster, all in one namespace.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use trueup_model::facts::cluster::{ClusterOwner, Inventory};
use trueup_model::id::AppName;

use super::cache::is_newer;

/// The namespace of trueup's own records.
pub(crate) const NAMESPACE: &str = "trueup-system";
/// Name of the ownership record.
pub(crate) const OWNER: &str = "owner";
/// Prefix of an inventory's name; the Application's name follows.
const INVENTORY_PREFIX: &str = "inventory-";
/// Label on inventories, with the Application's name, for people who look for them.
const INVENTORY_LABEL: &str = "trueup.dev/inventory";
/// Annotation on the ownership record that pauses the cluster; its value says why.
const PAUSE: &str = "trueup.dev/pause";
/// Largest inventory in bytes of JSON. etcd refuses objects over 1.5 MiB and the API
/// server ConfigMaps over 1 MiB; some 4 000 entries fit.
pub(crate) const INVENTORY_BYTES_MAX: usize = 900 * 1024;

/// Name of an Application's inventory.
pub(crate) fn inventory_name(app: &AppName) -> String {
    format!("{INVENTORY_PREFIX}{app}")
}

/// An inventory as a ConfigMap; `version` for the optimistic lock.
pub(crate) fn inventory_object(app: &AppName, json_text: &str, version: Option<&str>) -> Value {
    let mut object = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": inventory_name(app),
            "namespace": NAMESPACE,
            "labels": {INVENTORY_LABEL: app.as_str()},
        },
        "data": {"inventory": json_text},
    });
    if let Some(version) = version
        && let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
    {
        metadata.insert("resourceVersion".to_owned(), version.into());
    }
    object
}

/// The ownership record; of a live one everything but the data is kept, so that
/// somebody's pause survives.
pub(crate) fn owner_object(live: Option<&Value>, json_text: &str) -> Value {
    let mut object = live.cloned().unwrap_or_else(|| {
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": OWNER, "namespace": NAMESPACE},
        })
    });
    if let Some(fields) = object.as_object_mut() {
        fields.insert("data".to_owned(), json!({"owner": json_text}));
    }
    object
}

/// What an ownership record's ConfigMap says; an error where it cannot be read.
pub(crate) fn owner_of(object: &Value) -> Result<Option<ClusterOwner>, String> {
    let text = object
        .get("data")
        .and_then(|data| data.get("owner"))
        .and_then(Value::as_str);
    text.map(|text| serde_json::from_str(text).map_err(|error| error.to_string()))
        .transpose()
}

/// The records as last seen.
#[derive(Debug, Default)]
pub(crate) struct Records {
    by_name: BTreeMap<String, Record>,
}

#[derive(Debug)]
struct Record {
    version: String,
    content: Content,
}

#[derive(Debug, PartialEq)]
enum Content {
    Inventory(AppName, Inventory),
    Owner(Option<ClusterOwner>, Option<String>),
    /// A record of ours that cannot be read: nothing may be decided.
    Broken(String),
    /// Somebody else's, like `kube-root-ca.crt`.
    Foreign,
}

fn content_of(name: &str, object: &Value) -> Content {
    if name == OWNER {
        let pause = object
            .pointer("/metadata/annotations")
            .and_then(|annotations| annotations.get(PAUSE))
            .and_then(Value::as_str)
            .map(str::to_owned);
        return match owner_of(object) {
            Ok(owner) => Content::Owner(owner, pause),
            Err(why) => Content::Broken(why),
        };
    }
    let app = name
        .strip_prefix(INVENTORY_PREFIX)
        .and_then(|app| app.parse::<AppName>().ok());
    let Some(app) = app else {
        return Content::Foreign;
    };
    let text = object
        .get("data")
        .and_then(|data| data.get("inventory"))
        .and_then(Value::as_str);
    match text.map(serde_json::from_str) {
        Some(Ok(inventory)) => Content::Inventory(app, inventory),
        Some(Err(error)) => Content::Broken(error.to_string()),
        None => Content::Broken("it has no data.inventory".to_owned()),
    }
}

impl Records {
    /// A ConfigMap as it is now; true if it says something new.
    pub(crate) fn put(&mut self, object: &Value) -> bool {
        let text = |key: &str| {
            let value = object
                .get("metadata")
                .and_then(|metadata| metadata.get(key));
            value.and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let (name, version) = (text("name"), text("resourceVersion"));
        if let Some(known) = self.by_name.get(&name)
            && !is_newer(&version, &known.version)
        {
            return false;
        }
        let content = content_of(&name, object);
        let record = Record { version, content };
        let fresh = self
            .by_name
            .get(&name)
            .is_none_or(|known| known.content != record.content);
        self.by_name.insert(name, record);
        fresh
    }

    /// A ConfigMap is gone; true if it was known.
    pub(crate) fn remove(&mut self, name: &str) -> bool {
        self.by_name.remove(name).is_some()
    }

    /// Keep what is listed; true if anything went.
    pub(crate) fn retain(&mut self, listed: impl Fn(&str) -> bool) -> bool {
        let before = self.by_name.len();
        self.by_name.retain(|name, _| listed(name));
        before != self.by_name.len()
    }

    /// Inventories by Application.
    pub(crate) fn inventories(&self) -> impl Iterator<Item = (&AppName, &Inventory)> {
        self.by_name
            .values()
            .filter_map(|record| match &record.content {
                Content::Inventory(app, inventory) => Some((app, inventory)),
                _ => None,
            })
    }

    /// The owner, and why the cluster is paused.
    pub(crate) fn owner(&self) -> (Option<&ClusterOwner>, Option<&str>) {
        match self.by_name.get(OWNER).map(|record| &record.content) {
            Some(Content::Owner(owner, pause)) => (owner.as_ref(), pause.as_deref()),
            _ => (None, None),
        }
    }

    /// A record that cannot be read: its name and why.
    pub(crate) fn broken(&self) -> Option<(&str, &str)> {
        self.by_name
            .iter()
            .find_map(|(name, record)| match &record.content {
                Content::Broken(why) => Some((name.as_str(), why.as_str())),
                _ => None,
            })
    }

    /// Resource versions of the inventories: what a later write is compared with.
    pub(crate) fn versions(&self) -> BTreeMap<AppName, String> {
        self.by_name
            .values()
            .filter_map(|record| match &record.content {
                Content::Inventory(app, _) => Some((app.clone(), record.version.clone())),
                _ => None,
            })
            .collect()
    }
}
