//! Pause: somebody asked for this unit to be left alone, or the branch is held.

use super::{Case, Hold};

pub(super) fn judge(case: &Case<'_>) -> Option<Hold> {
    if let Some(why) = &case.context.paused {
        let next = format!("trueup resume {}", case.step.unit);
        return Some(Hold::refuse("pause", format!("paused: {why}"), next));
    }
    if let Some(why) = &case.context.held {
        let next = format!(
            "trueup approve --commit {} --reason WHY",
            case.context.commit
        );
        return Some(Hold::refuse("branch", why.clone(), next));
    }
    None
}
