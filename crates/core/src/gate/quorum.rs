//! Quorum: a server is started anew, restarted or added only when etcd can spare it.
//! The incident: OpenShift OCPBUGS-100060, a member restarted while somebody else
//! rebooted a second one; health came from a cache, and the cordon was the early sign.

use trueup_model::facts::Known;
use trueup_model::facts::etcd::EtcdFacts;
use trueup_model::facts::machine::Datastore;
use trueup_model::id::NodeName;
use trueup_model::step::{Action, Disruption};

use super::order::on_server;
use super::{Case, Hold};
use crate::observed::SeenCluster;

pub(super) fn judge(case: &Case<'_>) -> Option<Hold> {
    if !on_server(case, case.step) {
        return None;
    }
    let name = case.step.target.machine()?;
    if let Some(other) = case.ready.iter().find(|step| on_server(case, step)) {
        return Some(Hold::wait(
            "quorum",
            format!("one server at a time; {} goes first", other.target),
        ));
    }
    if let Some(other) = case
        .ready
        .iter()
        .find(|step| step.class >= Disruption::Restart && step.target.machine().is_some())
    {
        return Some(Hold::wait(
            "quorum",
            format!("{} is disrupted in this round", other.target),
        ));
    }
    let cluster = case.seen.cluster.as_ref()?;
    match &case.step.action {
        // It begins a cluster, or it is a member that is down already: starting it
        // can only help.
        Action::StartK3s { join: None, .. } => None,
        Action::StartK3s { .. } if is_member(case, name) => None,
        Action::StartK3s { .. } => join(case, cluster, name),
        // The only server with data, and it does not run: there is no quorum to lose.
        Action::RestartK3s { unit, .. } if is_down(case, name, unit) && is_alone(case, name) => {
            None
        }
        Action::RestartK3s { .. } => restart(case, cluster, name),
        _ => None,
    }
}

fn is_member(case: &Case<'_>, name: &NodeName) -> bool {
    case.seen
        .machine(name)
        .is_some_and(|facts| facts.k3s.datastore == Datastore::Etcd)
}

fn is_down(case: &Case<'_>, name: &NodeName, unit: &str) -> bool {
    let facts = case.seen.machine(name);
    facts.is_some_and(|facts| {
        facts
            .units
            .get(unit)
            .is_none_or(|unit| unit.active != "active")
    })
}

/// Every other declared server was seen, and has no data.
fn is_alone(case: &Case<'_>, name: &NodeName) -> bool {
    case.desired
        .servers()
        .filter(|server| server.name != *name)
        .all(|server| {
            case.seen
                .machine(&server.name)
                .is_some_and(|facts| facts.k3s.datastore == Datastore::None)
        })
}

/// etcd as this look saw it, or the wait that its absence is.
fn etcd(cluster: &SeenCluster) -> Result<&EtcdFacts, Hold> {
    match &cluster.etcd {
        Known::Known(etcd) => Ok(etcd),
        Known::Unknown(why) => Err(Hold::wait("quorum", format!("etcd is not known: {why}"))),
    }
}

/// What holds for every change of the control plane.
fn calm(case: &Case<'_>, cluster: &SeenCluster, name: &NodeName, etcd: &EtcdFacts) -> Option<Hold> {
    if let Some(alarm) = etcd.alarms.first() {
        return Some(Hold::wait(
            "quorum",
            format!("etcd raises an alarm: {alarm}"),
        ));
    }
    if let Some(member) = etcd.members.iter().find(|member| member.learner) {
        return Some(Hold::wait(
            "quorum",
            format!(
                "etcd member {} is still a learner",
                or_id(&member.name, &member.id)
            ),
        ));
    }
    for server in case.desired.servers().filter(|server| server.name != *name) {
        if !is_member(case, &server.name) && case.seen.machine(&server.name).is_some() {
            continue;
        }
        match cluster.ready.get(&server.name) {
            Some(Known::Known(())) => {}
            Some(Known::Unknown(why)) => {
                return Some(Hold::wait(
                    "quorum",
                    format!("{} is not ready: {why}", server.name),
                ));
            }
            None => {
                return Some(Hold::wait(
                    "quorum",
                    format!("{} was not asked", server.name),
                ));
            }
        }
        if let Some(why) = cordoned(cluster, &server.name) {
            return Some(Hold::wait("quorum", why));
        }
    }
    None
}

/// Another person's cordon is the early sign of work on a machine. Where it cannot be
/// seen, the machine counts as being worked on.
fn cordoned(cluster: &SeenCluster, server: &NodeName) -> Option<String> {
    let blind = |why: &str| format!("whether somebody cordoned {server} is not known: {why}");
    match &cluster.api {
        Known::Unknown(why) => Some(blind(why)),
        Known::Known(api) => match (&api.nodes_unheard, api.nodes.get(server.as_str())) {
            (Some(why), _) => Some(blind(why)),
            (None, Some(node)) if node.unschedulable => Some(format!(
                "somebody cordoned {server}: it counts as unavailable"
            )),
            (None, _) => None,
        },
    }
}

fn or_id<'a>(name: &'a str, id: &'a str) -> &'a str {
    if name.is_empty() { id } else { name }
}

fn join(case: &Case<'_>, cluster: &SeenCluster, name: &NodeName) -> Option<Hold> {
    let etcd = match etcd(cluster) {
        Ok(etcd) => etcd,
        Err(hold) => return Some(hold),
    };
    if etcd.healthy_voters() < etcd.voters() {
        return Some(Hold::wait(
            "quorum",
            format!(
                "{} of {} etcd voters are healthy",
                etcd.healthy_voters(),
                etcd.voters()
            ),
        ));
    }
    let stale = etcd.members.iter().find(|member| {
        member
            .name
            .rsplit_once('-')
            .is_some_and(|(node, _)| node == name.as_str())
    });
    if let Some(member) = stale {
        return Some(Hold::refuse(
            "quorum",
            format!(
                "etcd still has a member {} of a machine of this name",
                member.name
            ),
            "remove the old member, then try again",
        ));
    }
    calm(case, cluster, name, etcd)
}

fn restart(case: &Case<'_>, cluster: &SeenCluster, name: &NodeName) -> Option<Hold> {
    let etcd = match etcd(cluster) {
        Ok(etcd) => etcd,
        Err(hold) => return Some(hold),
    };
    let voters = etcd.voters();
    let others = etcd
        .members
        .iter()
        .filter(|member| !member.learner && member.healthy)
        .filter(|member| member.name.rsplit_once('-').map(|(node, _)| node) != Some(name.as_str()))
        .count();
    let quorum = voters / 2 + 1;
    // A single server has no margin ever: restarting it is what its owner chose.
    if voters > 1 && others < quorum {
        let reason = format!(
            "without {name} {others} of {voters} etcd voters are healthy, and a quorum is {quorum}"
        );
        if etcd.healthy_voters() == voters {
            if case.context.grants.contains(&case.step.id) {
                return calm(case, cluster, name, etcd);
            }
            return Some(Hold::refuse(
                "quorum",
                reason,
                format!("trueup approve {} --reason WHY", case.step.id.short()),
            ));
        }
        return Some(Hold::wait("quorum", reason));
    }
    calm(case, cluster, name, etcd)
}
