//! Writes of trueup's own records, and of a Node's labels and taints. Each carries
//! what it was decided on, and the server refuses it where that is no longer so.

use std::collections::BTreeMap;

use http::Method;
use serde_json::{Value, json};
use trueup_model::facts::cluster::{ClusterOwner, Inventory, OWNED_TAINTS, RawTaint};
use trueup_model::facts::object::FIELD_MANAGER;
use trueup_model::id::{AppName, NodeName};
use trueup_model::port::{ClusterError, Force};

use super::answer::{Quote, Status, error_of, json_of};
use super::cache::Subject;
use super::caller::Call;
use super::hub::Hub;
use super::node::taints_json;
use super::object::APPLY;
use super::record::{self, INVENTORY_BYTES_MAX, NAMESPACE, OWNER};
use super::resource::encoded;
use super::wire::Reply;

const JSON: &str = "application/json";
const CONFIG_MAPS: &str = "/api/v1/namespaces/trueup-system/configmaps";

/// Writes to one cluster.
pub(crate) struct Writer<'a> {
    pub(crate) hub: &'a Hub,
    pub(crate) cluster: &'a str,
}

fn refused(what: &str, why: impl Into<String>) -> ClusterError {
    ClusterError::Refused {
        what: what.to_owned(),
        why: why.into(),
    }
}

impl Writer<'_> {
    async fn call(&self, what: &str, call: &Call) -> Result<Reply, ClusterError> {
        let sent = self.hub.caller.call(call).await;
        sent.map_err(|fault| error_of(self.cluster, what, fault))
    }

    /// Write an inventory over the version `known` (`None`: it does not exist); the
    /// new version.
    pub(crate) async fn inventory(
        &self,
        app: &AppName,
        inventory: &Inventory,
        known: Option<&str>,
    ) -> Result<String, ClusterError> {
        let what = format!("writing the inventory of {app}");
        let text = serde_json::to_string(inventory)
            .map_err(|error| refused(&what, format!("it cannot be written as JSON: {error}")))?;
        if text.len() > INVENTORY_BYTES_MAX {
            return Err(refused(
                &what,
                format!(
                    "it has {} bytes and {} entries, and a ConfigMap holds {INVENTORY_BYTES_MAX} \
                     bytes: split the Application",
                    text.len(),
                    inventory.entries.len()
                ),
            ));
        }
        let object = record::inventory_object(app, &text, known);
        let name = record::inventory_name(app);
        self.put_record(&what, &name, &object, known.is_some())
            .await
    }

    /// Take or renew the ownership of the cluster.
    pub(crate) async fn owner(
        &self,
        owner: &ClusterOwner,
        take_over: bool,
    ) -> Result<(), ClusterError> {
        let what = format!("writing the ownership of {}", self.cluster);
        let live = self.live_owner(&what).await?;
        let mut owner = owner.clone();
        if let Some(live) = &live
            && let Some(recorded) = record::owner_of(live).map_err(|why| refused(&what, why))?
        {
            // Objects carry it as their creation mark: it outlives every epoch.
            owner.id.clone_from(&recorded.id);
            let (ours, theirs) = (&owner.claim, &recorded.claim);
            if theirs.holder != ours.holder && !take_over {
                return Err(refused(&what, format!("it is held by {theirs}")));
            }
            if theirs.epoch > ours.epoch {
                return Err(refused(
                    &what,
                    format!("the recorded epoch is higher: {theirs}"),
                ));
            }
        }
        let text = serde_json::to_string(&owner)
            .map_err(|error| refused(&what, format!("it cannot be written as JSON: {error}")))?;
        let object = record::owner_object(live.as_ref(), &text);
        self.put_record(&what, OWNER, &object, live.is_some())
            .await?;
        Ok(())
    }

    /// The ownership record as it is now, not as the watch last told.
    async fn live_owner(&self, what: &str) -> Result<Option<Value>, ClusterError> {
        let reply = self
            .call(what, &Call::get(format!("{CONFIG_MAPS}/{OWNER}")))
            .await?;
        match reply.code {
            200 => json_of(&reply, what).map(Some),
            404 => Ok(None),
            _ => Err(Status::of(&reply).error(what, Quote::Yes)),
        }
    }

    /// Create or replace a record; its new version. The namespace is made on demand.
    async fn put_record(
        &self,
        what: &str,
        name: &str,
        object: &Value,
        exists: bool,
    ) -> Result<String, ClusterError> {
        let call = if exists {
            let path = format!(
                "{CONFIG_MAPS}/{}?fieldManager={FIELD_MANAGER}",
                encoded(name)
            );
            Call::with_body(Method::PUT, path, JSON, object)
        } else {
            let path = format!("{CONFIG_MAPS}?fieldManager={FIELD_MANAGER}");
            Call::with_body(Method::POST, path, JSON, object)
        };
        let mut reply = self.call(what, &call).await?;
        if reply.code == 404 && !exists {
            self.make_namespace().await?;
            reply = self.call(what, &call).await?;
        }
        match reply.code {
            200 | 201 => {}
            404 if exists => return Err(refused(what, "somebody deleted it since it was read")),
            409 => return Err(refused(what, "somebody else wrote it since it was read")),
            _ => return Err(Status::of(&reply).error(what, Quote::Yes)),
        }
        let written = json_of(&reply, what)?;
        let version = written
            .pointer("/metadata/resourceVersion")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        self.learn(&Subject::Records, written);
        Ok(version)
    }

    async fn make_namespace(&self) -> Result<(), ClusterError> {
        let what = format!("creating namespace {NAMESPACE}");
        let object = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE},
        });
        let path = format!("/api/v1/namespaces?fieldManager={FIELD_MANAGER}");
        let call = Call::with_body(Method::POST, path, JSON, &object);
        let reply = self.call(&what, &call).await?;
        match reply.code {
            // 409: somebody else was faster.
            200 | 201 | 409 => Ok(()),
            _ => Err(Status::of(&reply).error(&what, Quote::Yes)),
        }
    }

    /// The UID of a Node: an apply with a UID changes this very object and never
    /// makes a new one.
    async fn node_uid(&self, node: &NodeName, what: &str) -> Result<String, ClusterError> {
        let known = {
            let state = self.hub.read();
            let known = state.cache.nodes.get(node.as_str());
            known.map(|(_, fact)| fact.uid.clone())
        };
        if let Some(uid) = known {
            return Ok(uid);
        }
        let live = self.live_node(node, what).await?;
        let uid = live.pointer("/metadata/uid").and_then(Value::as_str);
        Ok(uid.unwrap_or_default().to_owned())
    }

    async fn live_node(&self, node: &NodeName, what: &str) -> Result<Value, ClusterError> {
        let reply = self.call(what, &Call::get(node_path(node))).await?;
        match reply.code {
            200 => json_of(&reply, what),
            _ => Err(Status::of(&reply).error(what, Quote::Yes)),
        }
    }

    /// Own exactly these labels of a Node.
    pub(crate) async fn labels(
        &self,
        node: &NodeName,
        labels: &BTreeMap<String, String>,
        force: Force,
    ) -> Result<(), ClusterError> {
        let what = format!("setting the labels of Node {node}");
        let uid = self.node_uid(node, &what).await?;
        let object = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": node.as_str(), "uid": uid, "labels": labels},
        });
        let path = format!(
            "{}?fieldManager={FIELD_MANAGER}&fieldValidation=Strict&force={}",
            node_path(node),
            force == Force::Yes
        );
        let call = Call::with_body(Method::PATCH, path, APPLY, &object);
        let reply = self.call(&what, &call).await?;
        match reply.code {
            200 => {
                self.learn(&Subject::Nodes, json_of(&reply, &what)?);
                Ok(())
            }
            _ => Err(Status::of(&reply).error(&what, Quote::Yes)),
        }
    }

    /// Replace `before` by `after` in a Node's taints, and record whose they are.
    pub(crate) async fn taints(
        &self,
        node: &NodeName,
        before: &[RawTaint],
        after: &[RawTaint],
        owned: &str,
    ) -> Result<(), ClusterError> {
        let what = format!("setting the taints of Node {node}");
        let live = self.live_node(node, &what).await?;
        let patch = taint_patch(&live, before, after, owned);
        let path = format!("{}?fieldManager={FIELD_MANAGER}", node_path(node));
        let call = Call::with_body(Method::PATCH, path, "application/json-patch+json", &patch);
        let reply = self.call(&what, &call).await?;
        match reply.code {
            200 => {
                self.learn(&Subject::Nodes, json_of(&reply, &what)?);
                Ok(())
            }
            // The `test` did not hold.
            409 | 422 => Err(refused(
                &what,
                format!(
                    "they changed meanwhile ({})",
                    Status::of(&reply).text(Quote::Yes)
                ),
            )),
            _ => Err(Status::of(&reply).error(&what, Quote::Yes)),
        }
    }

    fn learn(&self, subject: &Subject, object: Value) {
        self.hub.change(|state| {
            if state.feeds.get(subject).is_some_and(|feed| feed.in_step) {
                state.cache.put(subject, object);
            }
        });
    }
}

fn node_path(node: &NodeName) -> String {
    format!("/api/v1/nodes/{}", encoded(node.as_str()))
}

/// The patch: everything that it takes for granted is tested by the server first.
fn taint_patch(live: &Value, before: &[RawTaint], after: &[RawTaint], owned: &str) -> Value {
    let mut patch = Vec::new();
    if let Some(uid) = live.pointer("/metadata/uid") {
        patch.push(json!({"op": "test", "path": "/metadata/uid", "value": uid}));
    }
    if before.is_empty() {
        // A `test` for null holds where the field is absent.
        patch.push(json!({"op": "test", "path": "/spec/taints", "value": null}));
    } else {
        patch.push(json!({"op": "test", "path": "/spec/taints", "value": taints_json(before)}));
    }
    match (before.is_empty(), after.is_empty()) {
        (true, true) => {}
        (false, true) => patch.push(json!({"op": "remove", "path": "/spec/taints"})),
        (_, false) => {
            patch.push(json!({"op": "add", "path": "/spec/taints", "value": taints_json(after)}));
        }
    }
    let annotations = live.pointer("/metadata/annotations");
    if annotations.is_none() {
        patch.push(json!({"op": "add", "path": "/metadata/annotations", "value": {}}));
    }
    let path = format!("/metadata/annotations/{}", OWNED_TAINTS.replace('/', "~1"));
    let recorded = annotations.is_some_and(|all| all.get(OWNED_TAINTS).is_some());
    match (owned.is_empty(), recorded) {
        (true, true) => patch.push(json!({"op": "remove", "path": path})),
        (true, false) => {}
        (false, _) => patch.push(json!({"op": "add", "path": path, "value": owned})),
    }
    Value::Array(patch)
}
