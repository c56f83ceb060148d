//! Backoff: a step that failed is not tried again at once.

use super::{Case, Hold};

pub(super) fn judge(case: &Case<'_>) -> Option<Hold> {
    let why = case.context.backoff.get(&case.step.id)?;
    Some(Hold::wait("backoff", why.clone()))
}
