//! Order: the first server, the other servers one at a time, then the agents; and
//! objects in stages, namespaces and definitions first.

use trueup_model::facts::Known;
use trueup_model::step::{Action, Step, Target};

use super::{Case, Hold};
use crate::desired::stage;
use crate::k3s::config::is_server;

pub(super) fn judge(case: &Case<'_>) -> Option<Hold> {
    if let Some(hold) = claim(case) {
        return Some(hold);
    }
    match &case.step.action {
        Action::StartK3s { join, .. } => start(case, join.as_deref()),
        Action::ApplyObject { .. } | Action::AdoptObject { .. } => object(case),
        Action::DeleteObject { .. } => delete(case),
        _ => None,
    }
}

/// True if a step concerns k3s on a server.
pub(super) fn on_server(case: &Case<'_>, step: &Step) -> bool {
    let k3s = matches!(
        step.action,
        Action::StartK3s { .. } | Action::RestartK3s { .. }
    );
    k3s && step
        .target
        .machine()
        .and_then(|name| case.desired.machines.get(name))
        .is_some_and(is_server)
}

/// In a cluster nothing is written before its ownership record stands.
fn claim(case: &Case<'_>) -> Option<Hold> {
    if !matches!(case.step.target, Target::Node(_) | Target::Object(..)) {
        return None;
    }
    let claim = case
        .proposed
        .iter()
        .find(|step| matches!(step.action, Action::ClaimCluster))?;
    Some(Hold::wait(
        "order",
        format!("after the claim of {}", claim.target),
    ))
}

fn start(case: &Case<'_>, join: Option<&str>) -> Option<Hold> {
    if on_server(case, case.step) || join.is_none() {
        return None;
    }
    if let Some(server) = case.proposed.iter().find(|step| on_server(case, step)) {
        return Some(Hold::wait(
            "order",
            format!(
                "agents come after the servers; {} is not done",
                server.target
            ),
        ));
    }
    let cluster = case.seen.cluster.as_ref()?;
    match &cluster.api {
        Known::Known(_) => None,
        Known::Unknown(why) => Some(Hold::wait(
            "order",
            format!("the API is not there yet: {why}"),
        )),
    }
}

fn object(case: &Case<'_>) -> Option<Hold> {
    let Target::Object(app, object) = &case.step.target else {
        return None;
    };
    let earlier = case
        .proposed
        .iter()
        .find(|step| match (&step.target, &step.action) {
            (_, Action::DeleteObject { .. }) => false,
            (Target::Object(other_app, other), _) => {
                other_app == app && stage(other) < stage(object) && !step.confirm
            }
            _ => false,
        })?;
    Some(Hold::wait("order", format!("after {}", earlier.target)))
}

/// Nothing is deleted while something of the same Application is still to be
/// applied: what replaces it comes first.
fn delete(case: &Case<'_>) -> Option<Hold> {
    let Target::Object(app, object) = &case.step.target else {
        return None;
    };
    let earlier = case
        .proposed
        .iter()
        .find(|step| match (&step.target, &step.action) {
            (Target::Object(other, other_object), Action::DeleteObject { .. }) => {
                other == app && stage(other_object) > stage(object)
            }
            (Target::Object(other, _), _) => other == app && !step.confirm,
            _ => false,
        })?;
    Some(Hold::wait("order", format!("after {}", earlier.target)))
}
