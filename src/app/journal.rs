//! The journal: a line before a step is performed, and its end.

use trueup_core::plan::Context;
use trueup_model::job::JobId;
use trueup_model::port::store::{JournalEntry, Store};
use trueup_model::step::{Outcome, Step};

/// A step begins. A journal that cannot be written stops nothing: what is true is on
/// the targets, and it is told in the log.
pub(crate) fn begin(
    store: &dyn Store,
    step: &Step,
    context: &Context,
    job: Option<&JobId>,
) -> Option<i64> {
    let entry = JournalEntry {
        step: step.id.0.clone(),
        unit: step.unit.to_string(),
        verb: step.action.verb().to_owned(),
        target: step.target.to_string(),
        subject: step.action.subject(),
        commit: context.commit.clone(),
        job: job.map(ToString::to_string),
    };
    match store.step_started(&entry) {
        Ok(row) => Some(row),
        Err(error) => {
            tracing::warn!(%error, "the journal misses the start of a step");
            None
        }
    }
}

/// A step has ended.
pub(crate) fn end(store: &dyn Store, row: Option<i64>, outcome: &Outcome) {
    let (word, detail) = match outcome {
        Outcome::Done => ("done", ""),
        Outcome::Failed(why) => ("failed", why.as_str()),
        Outcome::Unknown(why) => ("unknown", why.as_str()),
        Outcome::Fenced(why) => ("fenced", why.as_str()),
    };
    if let Some(row) = row
        && let Err(error) = store.step_ended(row, word, detail)
    {
        tracing::warn!(%error, "the journal misses the end of a step");
    }
}
