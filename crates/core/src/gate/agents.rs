//! Agents: a restart of an agent stays within `maxUnavailable`, counting agents that
//! are unavailable for any other reason. Unknown counts as unavailable.

use trueup_model::facts::Known;
use trueup_model::id::NodeName;
use trueup_model::step::{Action, Step};

use super::order::on_server;
use super::{Case, Hold};

pub(super) fn judge(case: &Case<'_>) -> Option<Hold> {
    if on_server(case, case.step) || !restarts(case.step) {
        return None;
    }
    let name = case.step.target.machine()?;
    if let Some(server) = case.proposed.iter().find(|step| on_server(case, step)) {
        return Some(Hold::wait(
            "agents",
            format!(
                "agents come after the servers; {} is not done",
                server.target
            ),
        ));
    }
    let cluster = case.desired.cluster.as_ref()?;
    let agents = case.desired.agents().count();
    let max = cluster.roll_out.agents_unavailable_max(agents);
    let (mut down, mut names) = (0, Vec::new());
    for agent in case.desired.agents().filter(|agent| agent.name != *name) {
        let disrupted = case
            .ready
            .iter()
            .any(|step| restarts(step) && step.target.machine() == Some(&agent.name));
        if disrupted || !available(case, &agent.name) {
            down += 1;
            names.push(agent.name.as_str());
        }
    }
    (down >= max).then(|| {
        Hold::wait(
            "agents",
            format!(
                "{} of at most {max} agents are unavailable: {}",
                down,
                names.join(", ")
            ),
        )
    })
}

fn restarts(step: &Step) -> bool {
    matches!(step.action, Action::RestartK3s { .. })
}

fn available(case: &Case<'_>, name: &NodeName) -> bool {
    let Some(cluster) = &case.seen.cluster else {
        return false;
    };
    match &cluster.api {
        Known::Known(api) => api
            .nodes
            .get(name.as_str())
            .is_some_and(|node| node.ready && !node.unschedulable),
        Known::Unknown(_) => false,
    }
}
