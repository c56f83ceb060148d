//! The journal: a line before a step is performed, and its end.

use trueup_core::plan::Context;
use trueup_model::job::JobId;
use trueup_model::port::store::{JournalEntry, Store};
use trueup_model::step::{Outcome, Step};

use super::clock::now_s;
use super::runtime::seconds;

/// A step begins. A journal that cannot be written stops nothing: what is true is on
/// the targets, and it is told in the log.
pub(crate) fn begin(
    store: &dyn Store,
    step: &Step,
    context: &Context,
    job: Option<&JobId>,
) -> Option<i64> {
    // A plan of a work tree is never performed: there is always a commit.
    let commit = context.commit.parse().ok()?;
    let entry = JournalEntry::of(step, &commit, job.map(ToString::to_string));
    match store.step_started(&entry, seconds(now_s())) {
        Ok(row) => Some(row),
        Err(error) => {
            tracing::warn!(%error, "the journal misses the start of a step");
            None
        }
    }
}

/// A step has ended.
pub(crate) fn end(store: &dyn Store, row: Option<i64>, outcome: &Outcome) {
    if let Some(row) = row
        && let Err(error) = store.step_ended(row, outcome, seconds(now_s()))
    {
        tracing::warn!(%error, "the journal misses the end of a step");
    }
}
