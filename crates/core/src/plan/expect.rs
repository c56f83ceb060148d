//! What is expected of a step: the facts as they will be if it succeeds. The
//! forecast is made of these; nothing is ever performed because of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use trueup_model::facts::Known;
use trueup_model::facts::cluster::{
    ClusterFacts, ClusterOwner, Inventory, InventoryEntry, NodeObject, OWNED_TAINTS,
};
use trueup_model::facts::etcd::{EtcdFacts, EtcdMember};
use trueup_model::facts::machine::{Datastore, FileFact, K3sBinary, MachineFacts};
use trueup_model::facts::object::{LiveObject, ObjectRef};
use trueup_model::id::{AppName, Digest, NodeName};
use trueup_model::step::{Action, FileSpec, Step, Target};

use super::Context;
use super::cluster::taints_after;
use crate::desired::{DesiredUnit, stage};
use crate::k3s::config::is_server;
use crate::observed::{Compared, SeenUnit};

/// Change `seen` as the step is expected to change the world.
pub(crate) fn apply(seen: &mut SeenUnit, desired: &DesiredUnit, step: &Step, context: &Context) {
    match &step.target {
        Target::Machine(name) => {
            if let Some(Known::Known(facts)) = seen.machines.get_mut(name) {
                machine(facts, desired, name, &step.action, context);
            }
            if let Action::StartK3s { .. } = &step.action {
                joined(seen, desired, name);
            }
        }
        Target::Cluster(_) => {
            if let Some(api) = api(seen) {
                let id = api
                    .owner
                    .as_ref()
                    .map_or("expected", |owner| owner.id.as_str())
                    .to_owned();
                api.owner = Some(ClusterOwner {
                    claim: context.claim.clone(),
                    id,
                });
            }
        }
        Target::Node(name) => node(seen, name, &step.action),
        Target::Object(app, of) => object(seen, desired, (app, of), &step.action),
    }
}

fn api(seen: &mut SeenUnit) -> Option<&mut ClusterFacts> {
    match &mut seen.cluster.as_mut()?.api {
        Known::Known(api) => Some(api),
        Known::Unknown(_) => None,
    }
}

fn put(facts: &mut MachineFacts, file: &FileSpec, text: Option<Vec<u8>>) {
    let fact = FileFact::Present {
        sha256: file.sha256.clone(),
        mode: file.mode.clone(),
        owner: file.owner.clone(),
        group: file.group.clone(),
        size: 0,
        mtime_s: facts.now_s,
        content: text,
    };
    facts.files.insert(file.path.clone(), fact);
    let record = facts.owner.get_or_insert_default();
    record.files.insert(file.path.clone(), file.sha256.clone());
    record.adopted.remove(&file.path);
}

fn text(file: &FileSpec) -> Option<Vec<u8>> {
    match &file.content {
        trueup_model::step::Content::Text(text) => Some(text.clone().into_bytes()),
        trueup_model::step::Content::Secret(_) | trueup_model::step::Content::K3sBinary(_) => None,
    }
}

fn machine(
    facts: &mut MachineFacts,
    desired: &DesiredUnit,
    name: &NodeName,
    action: &Action,
    context: &Context,
) {
    match action {
        Action::ClaimMachine => {
            facts.owner.get_or_insert_default().claim = Some(context.claim.clone());
        }
        Action::AdoptMachine { equal } => adopt(facts, desired, name, equal, context),
        Action::AdoptFile { file } => {
            let record = facts.owner.get_or_insert_default();
            record.files.insert(file.path.clone(), file.sha256.clone());
            record.adopted.insert(file.path.clone());
        }
        Action::WriteFile { file, .. } => put(facts, file, text(file)),
        Action::RemoveFile { path } => {
            facts.files.insert(path.clone(), FileFact::Absent);
            facts.owner.get_or_insert_default().files.remove(path);
        }
        Action::SetSysctls { values } => facts.sysctls.extend(values.clone()),
        Action::SetUnit {
            unit, enable, run, ..
        } => {
            let fact = facts.units.entry(unit.clone()).or_default();
            fact.load = "loaded".to_owned();
            fact.needs_reload = false;
            if let Some(on) = enable {
                fact.file = if *on { "enabled" } else { "disabled" }.to_owned();
            }
            if let Some(on) = run {
                fact.active = if *on { "active" } else { "inactive" }.to_owned();
            }
        }
        Action::InstallK3s { binary, version } => {
            put(facts, binary, None);
            facts.k3s.binary = Some(K3sBinary {
                sha256: binary.sha256.clone(),
                version: version.clone(),
            });
        }
        Action::StartK3s {
            unit,
            files,
            inputs,
            ..
        }
        | Action::RestartK3s {
            unit,
            files,
            inputs,
        } => {
            for file in files {
                if let trueup_model::step::Content::K3sBinary(version) = &file.content {
                    facts.k3s.binary = Some(K3sBinary {
                        sha256: file.sha256.clone(),
                        version: version.clone(),
                    });
                }
                put(facts, file, text(file));
            }
            started(facts, unit, inputs);
            let server = desired.machines.get(name).is_some_and(is_server);
            if server {
                facts.k3s.datastore = Datastore::Etcd;
            }
        }
        Action::ClaimCluster
        | Action::SetLabels { .. }
        | Action::SetTaints { .. }
        | Action::ApplyObject { .. }
        | Action::AdoptObject { .. }
        | Action::DeleteObject { .. } => {}
    }
}

fn adopt(
    facts: &mut MachineFacts,
    desired: &DesiredUnit,
    name: &NodeName,
    equal: &[String],
    context: &Context,
) {
    let record = facts.owner.get_or_insert_default();
    record.claim = Some(context.claim.clone());
    let Some(machine) = desired.machines.get(name) else {
        return;
    };
    for path in equal {
        if let Some((file, _)) = machine.files.get(path) {
            record.files.insert(path.clone(), file.sha256.clone());
            record.adopted.insert(path.clone());
        }
    }
}

fn started(facts: &mut MachineFacts, unit: &str, inputs: &Digest) {
    let fact = facts.units.entry(unit.to_owned()).or_default();
    fact.load = "loaded".to_owned();
    fact.active = "active".to_owned();
    fact.file = "enabled".to_owned();
    fact.started_s = facts.now_s + 1;
    fact.invocation = format!("expected-{}", inputs.short());
    let run = (fact.invocation.clone(), inputs.clone());
    facts
        .owner
        .get_or_insert_default()
        .runs
        .insert(unit.to_owned(), run);
}

/// k3s came up for the first time: a Node, and on a server a voter and an API.
fn joined(seen: &mut SeenUnit, desired: &DesiredUnit, name: &NodeName) {
    let Some(machine) = desired.machines.get(name) else {
        return;
    };
    let version = desired
        .cluster
        .as_ref()
        .map(|cluster| cluster.version.clone());
    let Some(cluster) = &mut seen.cluster else {
        return;
    };
    if is_server(machine) {
        cluster.ready.insert(name.clone(), Known::Known(()));
        let mut members = match &cluster.etcd {
            Known::Known(etcd) => etcd.members.clone(),
            Known::Unknown(_) => Vec::new(),
        };
        let known = members.iter().any(|member| {
            member.name.rsplit_once('-').map(|(node, _)| node) == Some(name.as_str())
        });
        if !known {
            members.push(EtcdMember {
                id: String::new(),
                name: format!("{name}-expected"),
                peer_urls: Vec::new(),
                learner: false,
                healthy: true,
                leader: members.is_empty(),
            });
        }
        cluster.etcd = Known::Known(EtcdFacts {
            members,
            alarms: Vec::new(),
        });
        if cluster.api.known().is_none() {
            cluster.api = Known::Known(ClusterFacts::default());
            missing_everything(cluster, desired);
        }
    }
    if let Known::Known(api) = &mut cluster.api {
        let node = api
            .nodes
            .entry(name.as_str().to_owned())
            .or_insert_with(NodeObject::default);
        node.ready = true;
        node.kubelet_version = version.unwrap_or_default();
    }
}

/// A new cluster holds none of the declared objects.
fn missing_everything(cluster: &mut crate::observed::SeenCluster, desired: &DesiredUnit) {
    for app in desired.apps.values() {
        for object in app.objects.keys() {
            cluster
                .compared
                .insert((app.name.clone(), object.clone()), Compared::Missing);
        }
    }
}

fn node(seen: &mut SeenUnit, name: &NodeName, action: &Action) {
    let Some(node) = api(seen).and_then(|api| api.nodes.get_mut(name.as_str())) else {
        return;
    };
    match action {
        Action::SetLabels { labels, .. } => {
            node.labels
                .retain(|key, _| !node.owned_labels.contains(key));
            node.labels.extend(labels.clone());
            node.owned_labels = labels.keys().cloned().collect();
        }
        Action::SetTaints {
            before,
            wanted,
            remove,
        } => {
            let (after, record) = taints_after(before, wanted, remove);
            node.taints = after;
            node.annotations.insert(OWNED_TAINTS.to_owned(), record);
        }
        _ => {}
    }
}

fn object(
    seen: &mut SeenUnit,
    desired: &DesiredUnit,
    (app, of): (&AppName, &ObjectRef),
    action: &Action,
) {
    let Some(cluster) = &mut seen.cluster else {
        return;
    };
    let Known::Known(api) = &mut cluster.api else {
        return;
    };
    match action {
        Action::ApplyObject { .. } | Action::AdoptObject { .. } => {
            cluster
                .compared
                .insert((app.clone(), of.clone()), Compared::Same);
            record(api.inventories.entry(app.clone()).or_default(), of, action);
            let live = LiveObject {
                object: of.clone(),
                uid: "expected".to_owned(),
                json: Arc::new(serde_json::Value::Null),
            };
            api.objects.entry(of.clone()).or_insert(live);
            opened(&mut cluster.compared, desired, app, of);
        }
        Action::DeleteObject { .. } => {
            api.objects.remove(of);
            if let Some(inventory) = api.inventories.get_mut(app) {
                inventory
                    .entries
                    .retain(|entry| entry.object.key() != of.key());
            }
        }
        _ => {}
    }
}

/// What could not be judged before its namespace or kind existed is missing now.
fn opened(
    compared: &mut BTreeMap<(AppName, ObjectRef), Compared>,
    desired: &DesiredUnit,
    app: &AppName,
    of: &ObjectRef,
) {
    if stage(of) > 0 {
        return;
    }
    let Some(desired) = desired.apps.get(app) else {
        return;
    };
    for object in desired.objects.keys() {
        let key = (app.clone(), object.clone());
        if matches!(compared.get(&key), Some(Compared::NotYet(_))) {
            compared.insert(key, Compared::Missing);
        }
    }
}

fn record(inventory: &mut Inventory, of: &ObjectRef, action: &Action) {
    if inventory
        .entries
        .iter()
        .any(|entry| entry.object.key() == of.key())
    {
        return;
    }
    inventory.entries.push(InventoryEntry {
        object: of.clone(),
        uid: Some("expected".to_owned()),
        adopted: matches!(action, Action::AdoptObject { .. }),
    });
}
