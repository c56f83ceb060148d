//! The API of a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde_json::{Value, json};
use trueup_model::facts::cluster::{ClusterFacts, ClusterOwner, Inventory, OWNED_TAINTS, RawTaint};
use trueup_model::facts::object::{
    APPLICATION_LABEL, Answer, FIELD_MANAGER, LiveObject, ObjectRef,
};
use trueup_model::id::{AppName, ClusterName, NodeName};
use trueup_model::port::{ApplyRefusal, ClusterApi, ClusterError, Force};

use super::etcd::cluster_of;
use super::{Keeper, records, visit};
use crate::cluster::{
    Cluster, Key, Manager, fact_of, is_namespaced, kind_of_group, node_key, text,
};
use crate::fleet::SimFleet;

/// Something new is looked for so often.
const LOOK_MS: u64 = 100;

/// The API of the cluster that these servers make.
#[derive(Debug)]
pub struct SimApi {
    keeper: Arc<dyn Keeper>,
    cluster: ClusterName,
    servers: Vec<(NodeName, String)>,
    /// Revision that the last facts were of.
    seen: Mutex<u64>,
    /// Versions of inventories as we know them: the optimistic lock.
    read: Mutex<BTreeMap<AppName, String>>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SimApi {
    /// Servers by name and address, in the order in which they are tried.
    pub fn new(
        keeper: Arc<dyn Keeper>,
        cluster: ClusterName,
        servers: Vec<(NodeName, String)>,
    ) -> Self {
        Self {
            keeper,
            cluster,
            servers,
            seen: Mutex::default(),
            read: Mutex::default(),
        }
    }

    fn unreachable(&self, why: impl Into<String>) -> ClusterError {
        ClusterError::Unreachable {
            cluster: self.cluster.to_string(),
            why: why.into(),
        }
    }

    /// Ask the API, if a server with a quorum behind it answers. Two UIDs are at hand.
    fn ask<T>(
        &self,
        act: impl FnOnce(&mut Cluster, (String, String), i64) -> T,
    ) -> Result<T, ClusterError> {
        let asked = visit(&self.keeper, |fleet: &mut SimFleet, now_ms| {
            let id = cluster_of(fleet, &self.servers).ok_or("no server answers")?;
            if !fleet.has_quorum(&id) {
                return Err("etcd has no quorum");
            }
            let uids = (fleet.uid(), fleet.uid());
            let cluster = fleet.clusters.get_mut(&id).ok_or("no server answers")?;
            Ok(act(cluster, uids, now_ms))
        });
        match asked {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(why)) => Err(self.unreachable(why)),
            Err(why) => Err(self.unreachable(why)),
        }
    }

    /// A Node, or 404.
    fn node(&self, cluster: &Cluster, node: &NodeName, what: &str) -> Result<Value, ClusterError> {
        let stored = cluster.objects.get(&node_key(node.as_str()));
        stored
            .map(|stored| stored.json.clone())
            .ok_or_else(|| ClusterError::Status {
                what: what.to_owned(),
                code: 404,
                reason: "NotFound".to_owned(),
                message: format!("nodes {:?} not found", node.as_str()),
            })
    }
}

fn refused(what: &str, why: impl Into<String>) -> ClusterError {
    ClusterError::Refused {
        what: what.to_owned(),
        why: why.into(),
    }
}

/// What the watches of the real driver keep of an object.
fn live_of(key: &Key, json: &Value) -> LiveObject {
    let mut json = json.clone();
    if let Some(metadata) = json.get_mut("metadata").and_then(Value::as_object_mut)
        && let Some(Value::Array(entries)) = metadata.get_mut("managedFields")
    {
        entries.retain(|entry| {
            text(entry, "/manager") != FIELD_MANAGER && entry.get("subresource").is_none()
        });
    }
    LiveObject {
        object: ObjectRef {
            api_version: text(&json, "/apiVersion").to_owned(),
            kind: key.1.clone(),
            namespace: key.2.clone(),
            name: key.3.clone(),
        },
        uid: text(&json, "/metadata/uid").to_owned(),
        json: Arc::new(json),
    }
}

fn facts_of(cluster: &Cluster, kinds: &[(String, String)]) -> ClusterFacts {
    let inventories = records::inventories(cluster);
    let mut wanted: BTreeSet<(&str, &str)> = kinds
        .iter()
        .map(|(api_version, kind)| (kind_of_group(api_version), kind.as_str()))
        .collect();
    let mut named = BTreeSet::new();
    for entry in inventories
        .iter()
        .flat_map(|(_, _, inventory)| &inventory.entries)
    {
        wanted.insert((entry.object.group(), &entry.object.kind));
        named.insert(entry.object.key());
    }
    let objects = cluster.objects.iter().filter(|(key, stored)| {
        let label = stored.json.pointer("/metadata/labels");
        let labelled = label.is_some_and(|labels| labels.get(APPLICATION_LABEL).is_some());
        let known = named.contains(&(
            key.0.as_str(),
            key.1.as_str(),
            key.2.as_str(),
            key.3.as_str(),
        ));
        wanted.contains(&(key.0.as_str(), key.1.as_str())) && (labelled || known)
    });
    let nodes = cluster
        .objects
        .iter()
        .filter(|(key, _)| key.1 == "Node" && key.0.is_empty());
    let (owner, paused) = records::owner(cluster);
    ClusterFacts {
        nodes: nodes
            .map(|(key, stored)| (key.3.clone(), fact_of(&stored.json)))
            .collect(),
        objects: objects
            .map(|(key, stored)| live_of(key, &stored.json))
            .map(|live| (live.object.clone(), live))
            .collect(),
        blind: BTreeMap::new(),
        cluster_scoped: kinds
            .iter()
            .filter(|(api_version, kind)| is_namespaced(cluster, api_version, kind) == Some(false))
            .cloned()
            .collect(),
        inventories: inventories
            .into_iter()
            .map(|(app, _, inventory)| (app, inventory))
            .collect(),
        owner,
        paused,
    }
}

#[async_trait]
impl ClusterApi for SimApi {
    async fn facts(&self, kinds: &[(String, String)]) -> Result<ClusterFacts, ClusterError> {
        self.ask(|cluster, _, _| {
            *locked(&self.seen) = cluster.revision;
            *locked(&self.read) = records::inventories(cluster)
                .into_iter()
                .map(|(app, version, _)| (app, version))
                .collect();
            facts_of(cluster, kinds)
        })
    }

    async fn changed(&self) {
        loop {
            self.keeper.pause(LOOK_MS).await;
            let seen = *locked(&self.seen);
            if let Ok(revision) = self.ask(|cluster, _, _| cluster.revision)
                && revision != seen
            {
                return;
            }
        }
    }

    async fn ready(&self, server: &NodeName) -> Result<(), ClusterError> {
        let address = self.servers.iter().find(|(name, _)| name == server);
        let Some((_, address)) = address else {
            return Err(self.unreachable(format!("{server} is not one of its servers")));
        };
        let ready = visit(&self.keeper, |fleet, _| {
            let machine = fleet.running(address).ok_or("connection timed out")?;
            let member = machine.member.as_ref().filter(|_| machine.k3s_up());
            let member = member.ok_or("connection refused")?;
            Ok::<bool, &str>(fleet.has_quorum(&member.cluster))
        });
        match ready {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(ClusterError::Status {
                what: format!("/readyz of {server}"),
                code: 503,
                reason: "ServiceUnavailable".to_owned(),
                message: "[-]etcd failed".to_owned(),
            }),
            Ok(Err(why)) => Err(self.unreachable(format!("{server}: {why}"))),
            Err(why) => Err(self.unreachable(why)),
        }
    }

    async fn apply(
        &self,
        object: &Value,
        force: Force,
        dry_run: bool,
    ) -> Result<Answer, ApplyRefusal> {
        let manager = Manager::applying(FIELD_MANAGER);
        let applied = self.ask(|cluster, (uid, _), now_ms| {
            cluster.apply(object, manager, force == Force::Yes, (uid, dry_run, now_ms))
        });
        let (json, created) = match applied {
            Ok(applied) => applied?,
            Err(error) => return Err(ApplyRefusal::Later(error.to_string())),
        };
        Ok(Answer {
            uid: text(&json, "/metadata/uid").to_owned(),
            created,
            json: Arc::new(json),
        })
    }

    async fn get(&self, object: &ObjectRef) -> Result<Option<LiveObject>, ClusterError> {
        self.ask(|cluster, _, _| {
            let json = cluster.get(object)?;
            Some(LiveObject {
                object: object.clone(),
                uid: text(json, "/metadata/uid").to_owned(),
                json: Arc::new(json.clone()),
            })
        })
    }

    async fn delete(&self, object: &ObjectRef, uid: &str) -> Result<(), ClusterError> {
        self.ask(|cluster, _, _| {
            let of = |part: &str| part.to_owned();
            let (group, kind, namespace, name) = object.key();
            let key = (of(group), of(kind), of(namespace), of(name));
            let same = cluster
                .get(object)
                .is_some_and(|json| text(json, "/metadata/uid") == uid);
            if same {
                cluster.take(&key);
            }
        })
    }

    async fn write_inventory(
        &self,
        app: &AppName,
        inventory: &Inventory,
    ) -> Result<(), ClusterError> {
        let what = format!("writing the inventory of {app}");
        let content = serde_json::to_string(inventory)
            .map_err(|error| refused(&what, format!("it cannot be written as JSON: {error}")))?;
        let known = locked(&self.read).get(app).cloned();
        let version = self.ask(|cluster, uids, now_ms| {
            if records::version(cluster, app) != known {
                return Err(refused(&what, "somebody else wrote it since it was read"));
            }
            Ok(records::write_inventory(
                cluster, app, &content, uids, now_ms,
            ))
        })??;
        locked(&self.read).insert(app.clone(), version);
        Ok(())
    }

    async fn write_owner(&self, owner: &ClusterOwner, take_over: bool) -> Result<(), ClusterError> {
        let what = format!("writing the ownership of {}", self.cluster);
        self.ask(|cluster, uids, now_ms| {
            let mut owner = owner.clone();
            if let (Some(recorded), _) = records::owner(cluster) {
                let ours = recorded.claim.holder == owner.claim.holder;
                if !ours && !take_over {
                    return Err(refused(&what, format!("it is held by {}", recorded.claim)));
                }
                if recorded.claim.epoch > owner.claim.epoch {
                    let epoch = recorded.claim.epoch;
                    return Err(refused(&what, format!("the recorded epoch is {epoch}")));
                }
                // Objects carry it as their creation mark: it outlives every epoch.
                owner.id = recorded.id;
            }
            let content =
                serde_json::to_string(&owner).map_err(|error| refused(&what, error.to_string()))?;
            records::write_owner(cluster, &content, uids, now_ms);
            Ok(())
        })?
    }

    async fn set_labels(
        &self,
        node: &NodeName,
        labels: &BTreeMap<String, String>,
        force: Force,
    ) -> Result<(), ClusterError> {
        let what = format!("setting the labels of Node {node}");
        let manager = Manager::applying(FIELD_MANAGER);
        self.ask(|cluster, (uid, _), now_ms| {
            self.node(cluster, node, &what)?;
            let object = json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": {"name": node.as_str(), "labels": labels},
            });
            match cluster.apply(&object, manager, force == Force::Yes, (uid, false, now_ms)) {
                Ok(_) => Ok(()),
                Err(ApplyRefusal::Conflict(fields)) => Err(ClusterError::Conflict {
                    what: what.clone(),
                    fields,
                }),
                Err(refusal) => Err(refused(&what, refusal.to_string())),
            }
        })?
    }

    async fn set_taints(
        &self,
        node: &NodeName,
        before: &[RawTaint],
        after: &[RawTaint],
        owned: &str,
    ) -> Result<(), ClusterError> {
        let what = format!("setting the taints of Node {node}");
        let manager = Manager::updating(FIELD_MANAGER, None);
        self.ask(|cluster, _, now_ms| {
            let live = self.node(cluster, node, &what)?;
            if fact_of(&live).taints != before {
                return Err(refused(&what, "they changed meanwhile"));
            }
            let taints = taints_json(after);
            cluster.update(&node_key(node.as_str()), manager, now_ms, |json| {
                set(
                    json,
                    "spec",
                    "taints",
                    (!after.is_empty()).then_some(taints),
                );
                let mut annotations = json.pointer("/metadata/annotations").cloned();
                let map = annotations.get_or_insert_with(|| json!({}));
                if let Some(map) = map.as_object_mut() {
                    map.shift_remove(OWNED_TAINTS);
                    if !owned.is_empty() {
                        map.insert(OWNED_TAINTS.to_owned(), owned.into());
                    }
                }
                set(json, "metadata", "annotations", annotations);
            });
            Ok(())
        })?
    }
}

fn taints_json(taints: &[RawTaint]) -> Value {
    let each = taints.iter().map(|taint| {
        let mut json = json!({"key": taint.key, "effect": taint.effect});
        if let Some(map) = json.as_object_mut() {
            if !taint.value.is_empty() {
                map.insert("value".to_owned(), taint.value.clone().into());
            }
            if let Some(time) = &taint.time_added {
                map.insert("timeAdded".to_owned(), time.clone().into());
            }
        }
        json
    });
    each.collect()
}

fn set(json: &mut Value, part: &str, field: &str, value: Option<Value>) {
    let Some(part) = json
        .as_object_mut()
        .map(|map| map.entry(part).or_insert_with(|| json!({})))
    else {
        return;
    };
    if let Some(part) = part.as_object_mut() {
        match value {
            Some(value) => drop(part.insert(field.to_owned(), value)),
            None => drop(part.shift_remove(field)),
        }
    }
}
