//! Stale: a saved plan is performed as it is. A step that it does not name means that
//! the world moved since, and nothing more of it is started.

use super::{Case, Hold};

/// The gate's name: `apply` ends as stale when it meets it.
pub const NAME: &str = "stale";

pub(super) fn judge(case: &Case<'_>) -> Option<Hold> {
    let allowed = case.context.allowed.as_ref()?;
    if allowed.contains(&case.step.id) {
        return None;
    }
    Some(Hold::refuse(
        NAME,
        format!("the plan does not name this step: {}", case.step.why.text),
        "trueup plan",
    ))
}
