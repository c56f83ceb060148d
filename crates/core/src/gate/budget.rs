//! Budget: how many objects may be deleted without a grant, per Application, cluster
//! and commit, and over any 24 hours. Over it nothing is deleted, not the first n.
//! The incidents: Argo CD #9227, #18480; Flux #3316: a small change, and everything went.

use trueup_model::facts::Known;
use trueup_model::id::AppName;
use trueup_model::step::{Action, Step, Target};

use super::{Case, Hold};

/// Any 24 hours.
const WINDOW_S: i64 = 24 * 3600;

pub(super) fn judge(case: &Case<'_>) -> Option<Hold> {
    let app = deletes(case.step)?;
    let app_desired = case.desired.apps.get(app)?;
    // The confirm class stands outside of the budget: each step is granted by name.
    if app_desired.removed || case.context.grants.contains(&case.step.id) {
        return None;
    }
    let cluster = case.seen.cluster.as_ref()?;
    let Known::Known(api) = &cluster.api else {
        return None;
    };
    let inventory = api.inventories.get(app)?;
    let of_commit = |deletion: &&trueup_model::facts::cluster::Deletion| {
        deletion.commit == case.context.commit
            || case.context.now_s.saturating_sub(deletion.at_s) < WINDOW_S
    };
    let done: usize = inventory
        .deletions
        .iter()
        .filter(of_commit)
        .map(|deletion| deletion.count)
        .sum();
    let size = inventory.entries.len() + done;
    let max = allowed(size);
    let asked = case
        .proposed
        .iter()
        .filter(|step| deletes(step) == Some(app))
        .filter(|step| !case.context.grants.contains(&step.id))
        .count();
    (asked + done > max).then(|| {
        Hold::refuse(
            "budget",
            format!(
                "{asked} of {size} objects of {app} would be deleted ({done} were already); the budget is {max}"
            ),
            format!("trueup approve --deletions {app} --reason WHY"),
        )
    })
}

fn deletes(step: &Step) -> Option<&AppName> {
    match (&step.action, &step.target) {
        (Action::DeleteObject { .. }, Target::Object(app, _)) => Some(app),
        _ => None,
    }
}

/// `min(50, max(5, 10 %))` of the inventory at that commit.
pub(crate) fn allowed(size: usize) -> usize {
    (size / 10).clamp(5, 50)
}

#[cfg(test)]
mod tests {
    use super::allowed;

    #[test]
    fn the_budget_is_a_tenth_within_bounds() {
        for (size, budget) in [(0, 5), (40, 5), (60, 6), (200, 20), (5000, 50)] {
            assert_eq!(allowed(size), budget, "{size}");
        }
    }
}
