//! Grant: a step of the confirm class starts only if somebody named it.

use super::{Case, Hold};

pub(super) fn judge(case: &Case<'_>) -> Option<Hold> {
    let step = case.step;
    if !step.confirm || case.context.grants.contains(&step.id) {
        return None;
    }
    Some(Hold::refuse(
        "grant",
        format!("it needs a grant: {}", step.why.text),
        format!("trueup approve {} --reason WHY", step.id.short()),
    ))
}
