//! Steps on the cluster itself: its ownership record, labels and taints of its Nodes.

use std::collections::BTreeSet;

use trueup_model::facts::Known;
use trueup_model::facts::cluster::{ClusterFacts, NodeObject, OWNED_TAINTS, RawTaint};
use trueup_model::step::{Action, Cause, Disruption, Target};

use super::machine::{Standing, standing};
use super::members::runs;
use super::{Context, WaitKind};
use crate::desired::{DesiredCluster, DesiredMachine, DesiredUnit};
use crate::observed::SeenUnit;
use crate::round::{Draft, Proposal};

/// Plan the cluster's own things.
pub(crate) fn plan(draft: &mut Draft, desired: &DesiredUnit, seen: &SeenUnit, context: &Context) {
    let (Some(cluster), Some(seen_cluster)) = (&desired.cluster, &seen.cluster) else {
        return;
    };
    let anything_runs = desired.servers().any(|server| {
        seen.machine(&server.name)
            .is_some_and(|facts| runs(server, facts, cluster))
    });
    let api = match &seen_cluster.api {
        Known::Known(api) => api,
        Known::Unknown(why) => {
            if anything_runs || desired.machines.is_empty() {
                draft.wait(
                    format!("{}:api", cluster.name),
                    WaitKind::Unknown,
                    why.clone(),
                );
            }
            return;
        }
    };
    if !owner(draft, desired, cluster, (seen, api), context) {
        return;
    }
    for machine in desired
        .machines
        .values()
        .filter(|machine| machine.k3s.is_some())
    {
        let up = seen
            .machine(&machine.name)
            .is_some_and(|facts| runs(machine, facts, cluster));
        match api.nodes.get(machine.name.as_str()) {
            Some(node) => node_steps(draft, (cluster, machine), node, context),
            None if up => draft.wait(
                format!("node/{}", machine.name),
                WaitKind::Progress,
                "k3s runs, and its Node is not registered yet",
            ),
            None => {}
        }
    }
}

/// The ownership record; false: the cluster is not ours to write to.
fn owner(
    draft: &mut Draft,
    desired: &DesiredUnit,
    cluster: &DesiredCluster,
    (seen, api): (&SeenUnit, &ClusterFacts),
    context: &Context,
) -> bool {
    if let Some(owner) = &api.owner {
        let ours = owner.claim.holder == context.claim.holder;
        if !ours && !context.take_over || owner.claim.epoch > context.claim.epoch {
            draft.wait(
                cluster.name.as_str(),
                WaitKind::Broken,
                format!(
                    "it is held by {}; to take it over: trueup claim --take-over {} --reason WHY",
                    owner.claim, draft.unit
                ),
            );
            return false;
        }
        if owner.claim == context.claim {
            return true;
        }
    }
    // A cluster that trueup began on its own machines is its own; any other one is
    // taken over only when somebody says so.
    let made_here = !desired.machines.is_empty()
        && desired.servers().all(|server| {
            seen.machine(&server.name)
                .is_some_and(|facts| standing(server, facts, context) == Standing::Ours)
        });
    draft.step(
        Target::Cluster(cluster.name.clone()),
        Action::ClaimCluster,
        Proposal {
            desired: &context.claim.to_string(),
            class: Disruption::None,
            cause: Cause::Commit,
            confirm: api.owner.is_none() && !made_here,
            at: Some(&cluster.origin),
            why: format!("the cluster is to be held by {}", context.claim),
        },
    );
    true
}

fn node_steps(
    draft: &mut Draft,
    (cluster, machine): (&DesiredCluster, &DesiredMachine),
    node: &NodeObject,
    context: &Context,
) {
    let subject = format!("node/{}", machine.name);
    if !node.ready {
        let kind = if machine.optional {
            WaitKind::Optional
        } else {
            WaitKind::Progress
        };
        draft.wait(subject.clone(), kind, "the Node is not Ready");
    } else if node.kubelet_version != cluster.version {
        draft.wait(
            subject.clone(),
            WaitKind::Progress,
            format!(
                "its kubelet is {}, not {}",
                node.kubelet_version, cluster.version
            ),
        );
    }
    labels(draft, machine, node, context);
    taints(draft, machine, node, context);
}

fn labels(draft: &mut Draft, machine: &DesiredMachine, node: &NodeObject, context: &Context) {
    let mut whys = Vec::new();
    let mut foreign = Vec::new();
    let mut force = false;
    let before = context.labels_before.get(&machine.name);
    let ours = |key: &String| {
        node.owned_labels.contains(key) || before.is_some_and(|before| before.contains_key(key))
    };
    for (key, value) in &machine.labels {
        match node.labels.get(key) {
            // Where somebody else set the same, there is nothing to write.
            Some(live) if live == value => {}
            Some(live) => {
                force |= !node.owned_labels.contains(key);
                if !ours(key) {
                    foreign.push(key.as_str());
                }
                whys.push(format!("{key} is {live:?}, not {value:?}"));
            }
            None => whys.push(format!("{key} is missing")),
        }
    }
    for key in &node.owned_labels {
        if !machine.labels.contains_key(key) {
            whys.push(format!("{key} is ours and no longer declared"));
        }
    }
    if whys.is_empty() {
        return;
    }
    if !foreign.is_empty() {
        whys.push(format!("somebody else set {}", foreign.join(", ")));
    }
    draft.step(
        Target::Node(machine.name.clone()),
        Action::SetLabels {
            labels: machine.labels.clone(),
            force,
        },
        Proposal {
            desired: &format!("{:?}", machine.labels),
            class: Disruption::None,
            cause: context.cause(),
            confirm: !foreign.is_empty(),
            at: Some(&machine.origin),
            why: whys.join("; "),
        },
    );
}

/// `key:effect`, by which Kubernetes tells taints apart.
fn taint_name(taint: &RawTaint) -> String {
    format!("{}:{}", taint.key, taint.effect)
}

fn taints(draft: &mut Draft, machine: &DesiredMachine, node: &NodeObject, context: &Context) {
    let owned: BTreeSet<String> = node
        .annotations
        .get(OWNED_TAINTS)
        .map(|list| {
            list.split(',')
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect()
        })
        .unwrap_or_default();
    let wanted: BTreeSet<String> = machine
        .taints
        .iter()
        .map(|taint| format!("{}:{}", taint.key, taint.effect.as_str()))
        .collect();
    let mut whys = Vec::new();
    for taint in &machine.taints {
        if !node.taints.iter().any(|live| live.is(taint)) {
            whys.push(format!(
                "{}:{} is missing or differs",
                taint.key,
                taint.effect.as_str()
            ));
        }
    }
    let remove: Vec<String> = node
        .taints
        .iter()
        .map(taint_name)
        .filter(|name| owned.contains(name) && !wanted.contains(name))
        .collect();
    whys.extend(
        remove
            .iter()
            .map(|name| format!("{name} is ours and no longer declared")),
    );
    if whys.is_empty() {
        return;
    }
    draft.step(
        Target::Node(machine.name.clone()),
        Action::SetTaints {
            before: node.taints.clone(),
            wanted: machine.taints.clone(),
            remove,
        },
        Proposal {
            desired: &format!("{wanted:?}"),
            class: Disruption::None,
            cause: context.cause(),
            confirm: false,
            at: Some(&machine.origin),
            why: whys.join("; "),
        },
    );
}

/// The whole list after a change, and the record of ours: what other people and
/// controllers put there stays, in its order.
pub fn taints_after(
    before: &[RawTaint],
    wanted: &[trueup_model::kinds::Taint],
    remove: &[String],
) -> (Vec<RawTaint>, String) {
    let ours: BTreeSet<String> = wanted
        .iter()
        .map(|taint| format!("{}:{}", taint.key, taint.effect.as_str()))
        .collect();
    let mut after: Vec<RawTaint> = before
        .iter()
        .filter(|live| {
            let name = taint_name(live);
            let replaced = ours.contains(&name) && !wanted.iter().any(|taint| live.is(taint));
            !remove.contains(&name) && !replaced
        })
        .cloned()
        .collect();
    for taint in wanted {
        if !after.iter().any(|live| live.is(taint)) {
            after.push(RawTaint {
                key: taint.key.clone(),
                value: taint.value.clone(),
                effect: taint.effect.as_str().to_owned(),
                time_added: None,
            });
        }
    }
    let record: Vec<String> = ours.into_iter().collect();
    (after, record.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use trueup_model::kinds::{Taint, TaintEffect};

    fn raw(key: &str, effect: &str) -> RawTaint {
        RawTaint {
            key: key.into(),
            value: String::new(),
            effect: effect.into(),
            time_added: None,
        }
    }

    #[test]
    fn other_peoples_taints_stay() {
        let before = [
            raw("node.kubernetes.io/not-ready", "NoExecute"),
            raw("old", "NoSchedule"),
        ];
        let wanted = [Taint {
            key: "new".into(),
            value: String::new(),
            effect: TaintEffect::NoSchedule,
        }];
        let (after, record) = taints_after(&before, &wanted, &["old:NoSchedule".into()]);
        assert_eq!(after, [before[0].clone(), raw("new", "NoSchedule")]);
        assert_eq!(record, "new:NoSchedule");
    }
}
