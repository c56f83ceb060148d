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
    if let Some(why) = blind(case) {
        let reason = format!("which agents are available is not known: {why}");
        return Some(Hold::wait("agents", reason));
    }
    let (mut down, mut names) = (0, Vec::new());
    for agent in case.desired.agents().filter(|agent| agent.name != *name) {
        let disrupted = case
            .ready
            .iter()
            .any(|step| restarts(step) && step.target.machine() == Some(&agent.name));
        let why = if disrupted {
            Some("in work")
        } else {
            unavailable(case, &agent.name)
        };
        if let Some(why) = why {
            down += 1;
            names.push(format!("{} ({why})", agent.name));
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

/// Why nothing that is told of the Nodes is of this moment.
fn blind(case: &Case<'_>) -> Option<String> {
    match &case.seen.cluster.as_ref()?.api {
        Known::Known(api) => api.nodes_unheard.clone(),
        Known::Unknown(why) => Some(why.clone()),
    }
}

fn unavailable(case: &Case<'_>, name: &NodeName) -> Option<&'static str> {
    let Some(Known::Known(api)) = case.seen.cluster.as_ref().map(|cluster| &cluster.api) else {
        return Some("not known");
    };
    match api.nodes.get(name.as_str()) {
        None => Some("it has no Node"),
        Some(node) if node.unschedulable => Some("somebody cordoned it"),
        Some(node) if !node.ready => Some("not ready"),
        Some(_) => None,
    }
}
