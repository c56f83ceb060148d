//! Pause: somebody asked for this unit or Application to be left alone, here or on the
//! cluster itself (where it counts also while the host is gone), or the branch is held.

use trueup_model::facts::Known;
use trueup_model::step::Target;

use super::{Case, Hold};

pub(super) fn judge(case: &Case<'_>) -> Option<Hold> {
    if let Some(why) = &case.context.paused {
        let next = format!("trueup resume {}", case.step.unit);
        return Some(Hold::refuse("pause", format!("paused: {why}"), next));
    }
    if let Target::Object(app, _) = &case.step.target
        && let Some(why) = case.context.paused_apps.get(app)
    {
        let next = format!("trueup resume app/{app}");
        return Some(Hold::refuse(
            "pause",
            format!("{app} is paused: {why}"),
            next,
        ));
    }
    if let Some((why, next)) = on_cluster(case) {
        return Some(Hold::refuse("pause", why, next));
    }
    let why = case.context.held.as_ref()?;
    let next = format!(
        "trueup approve --commit {} --reason WHY",
        case.context.commit
    );
    Some(Hold::refuse("branch", why.clone(), next))
}

/// While the API does not answer, the annotation that was seen last still counts.
fn on_cluster(case: &Case<'_>) -> Option<(String, String)> {
    match &case.seen.cluster.as_ref()?.api {
        Known::Known(api) => {
            let why = api.paused.as_ref()?;
            let next = "kubectl -n trueup-system annotate configmap owner trueup.dev/pause-";
            let why = format!("paused on the cluster itself: {why}");
            Some((why, next.to_owned()))
        }
        Known::Unknown(_) => {
            let why = case.context.paused_on_cluster.as_ref()?;
            let why = format!("paused on the cluster itself when it was last seen: {why}");
            Some((why, format!("trueup resume {}", case.step.unit)))
        }
    }
}
