//! One look at a unit: machines by their probe, the cluster from its watches; and,
//! when something disruptive is proposed, `/readyz` and etcd, asked now.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use trueup_core::desired::{DesiredMachine, DesiredUnit};
use trueup_core::health;
use trueup_core::observed::{SeenCluster, SeenUnit, parse, probe_request};
use trueup_core::plan::{Context, round};
use trueup_model::facts::Known;
use trueup_model::facts::machine::MachineFacts;
use trueup_model::id::NodeName;
use trueup_model::port::NodeShell;
use trueup_model::step::Action;

use super::compare::Comparer;
use super::world::{ClusterPorts, World};

/// A machine that does not answer a probe in this time is looked at as unreachable;
/// the rest is not kept waiting for it.
const PROBE_DEADLINE: Duration = Duration::from_secs(20);
/// The API answers from watches; the first look waits for them to be in step.
const API_DEADLINE: Duration = Duration::from_secs(30);

/// Look at a unit.
pub(crate) async fn look(
    world: &World,
    desired: &DesiredUnit,
    context: &Context,
    comparer: &Comparer,
) -> SeenUnit {
    let mut probes: Vec<BoxFuture<'_, (NodeName, Known<MachineFacts>)>> = Vec::new();
    for machine in desired.machines.values() {
        probes.push(Box::pin(async move {
            let facts = match world.shell(&machine.name) {
                Some(shell) => probe(shell.as_ref(), machine).await,
                None => Known::Unknown(world.why_no_shell(&machine.name)),
            };
            (machine.name.clone(), facts)
        }));
    }
    let mut seen = SeenUnit {
        machines: join_all(probes).await.into_iter().collect(),
        cluster: None,
    };
    let Some(cluster) = &desired.cluster else {
        return seen;
    };
    let mut seen_cluster = SeenCluster {
        release: world.release(&cluster.version).await,
        ..SeenCluster::default()
    };
    if let Some(ports) = world.cluster(&cluster.name) {
        if may_answer(desired, &seen) {
            api(ports, desired, &mut seen_cluster, comparer).await;
        } else {
            let why = "no server runs k3s yet";
            seen_cluster.api = Known::Unknown(why.to_owned());
        }
    }
    seen.cluster = Some(seen_cluster);
    deepen(world, desired, context, &mut seen).await;
    seen
}

/// Probe one machine.
async fn probe(shell: &dyn NodeShell, machine: &DesiredMachine) -> Known<MachineFacts> {
    // Two probes where the record owns files that nothing declares any more: their
    // state is needed to know whether they are still there.
    let mut owned = Vec::new();
    for _ in 0..2 {
        let request = probe_request(machine, &owned);
        let reply = match tokio::time::timeout(PROBE_DEADLINE, shell.probe(&request)).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) => return Known::Unknown(error.to_string()),
            Err(_) => {
                return Known::Unknown(format!(
                    "it did not answer within {} s",
                    PROBE_DEADLINE.as_secs()
                ));
            }
        };
        let facts = match parse(&reply) {
            Ok(facts) => facts,
            Err(error) => return Known::Unknown(error.to_string()),
        };
        let unasked: Vec<String> = facts
            .owner
            .iter()
            .flat_map(|record| record.files.keys())
            .filter(|path| !facts.files.contains_key(*path))
            .cloned()
            .collect();
        if unasked.is_empty() || !owned.is_empty() {
            return Known::Known(facts);
        }
        owned = unasked;
    }
    Known::Unknown("its ownership record changes while it is read".to_owned())
}

/// Asking an API that cannot be there costs a timeout and a frightening message.
fn may_answer(desired: &DesiredUnit, seen: &SeenUnit) -> bool {
    desired.machines.is_empty()
        || desired.servers().any(|server| {
            match seen.machines.get(&server.name) {
                Some(Known::Known(facts)) => facts
                    .units
                    .get(trueup_core::paths::UNITS[0])
                    .is_some_and(|unit| unit.active == "active" || unit.active == "activating"),
                // Its API may answer through the others.
                Some(Known::Unknown(_)) | None => false,
            }
        })
}

async fn api(
    ports: &ClusterPorts,
    desired: &DesiredUnit,
    seen: &mut SeenCluster,
    comparer: &Comparer,
) {
    let kinds = comparer.kinds(desired);
    match tokio::time::timeout(API_DEADLINE, ports.api.facts(&kinds)).await {
        Ok(Ok(facts)) => {
            seen.compared = comparer.compare(ports.api.as_ref(), desired, &facts).await;
            for app in desired.apps.values() {
                for object in app.objects.keys() {
                    if let Some(live) = facts.objects.get(object) {
                        seen.health.insert(
                            (app.name.clone(), object.clone()),
                            health::of(live.json.as_ref()),
                        );
                    }
                }
            }
            seen.api = Known::Known(facts);
        }
        Ok(Err(error)) => seen.api = Known::Unknown(error.to_string()),
        Err(_) => {
            seen.api = Known::Unknown(format!(
                "it did not answer within {} s",
                API_DEADLINE.as_secs()
            ));
        }
    }
}

/// A step on k3s is judged by what etcd and each server say now, not by what a
/// watch said a while ago.
async fn deepen(world: &World, desired: &DesiredUnit, context: &Context, seen: &mut SeenUnit) {
    let proposed = round(desired, seen, context);
    let disruptive = proposed
        .ready
        .iter()
        .chain(proposed.held.iter().map(|held| &held.step))
        .any(|step| {
            matches!(
                step.action,
                Action::StartK3s { join: Some(_), .. } | Action::RestartK3s { .. }
            )
        });
    let Some(ports) = desired
        .cluster
        .as_ref()
        .and_then(|cluster| world.cluster(&cluster.name))
    else {
        return;
    };
    if !disruptive || !may_answer(desired, seen) {
        return;
    }
    let mut asks: Vec<BoxFuture<'_, (NodeName, Known<()>)>> = Vec::new();
    for server in desired.servers() {
        asks.push(Box::pin(async move {
            let answer = match ports.api.ready(&server.name).await {
                Ok(()) => Known::Known(()),
                Err(error) => Known::Unknown(error.to_string()),
            };
            (server.name.clone(), answer)
        }));
    }
    let ready: BTreeMap<NodeName, Known<()>> = join_all(asks).await.into_iter().collect();
    let etcd = match ports.etcd.members().await {
        Ok(etcd) => Known::Known(etcd),
        Err(error) => Known::Unknown(error.to_string()),
    };
    if let Some(cluster) = &mut seen.cluster {
        cluster.ready = ready;
        cluster.etcd = etcd;
    }
}
