//! Plans of branches beside the tracked one (`plan.branches`): what would happen if
//! their tips were it. Looks only; nothing of such a branch is ever carried out, and
//! the loop does not wait for the looks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use tokio::sync::{Semaphore, mpsc};
use trueup_core::desired::DesiredUnit;
use trueup_core::plan::{Context, UnitPlan, WaitKind, forecast};
use trueup_drivers::git::BranchGlob;
use trueup_model::id::CommitId;
use trueup_model::port::Store;
use trueup_model::verdict::VerdictState;

use super::commit::{Commit, Sound};
use super::compare::Comparer;
use super::look::look;
use super::runtime::{LOOKS_AT_ONCE, Runtime, newest_epoch};
use crate::cli::Failure;

/// Branches that are begun with at one look at the repository.
const BEGUN_MAX: usize = 5;
/// As long as the fetch of the tracked branch: the loop waits for it.
const FETCH_LIMIT: Duration = Duration::from_secs(25);
/// A unit's look has deadlines of its own; a plan of very many ends here.
const PLAN_LIMIT: Duration = Duration::from_secs(180);

/// What is said of a tip.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) commit: CommitId,
    pub(crate) state: VerdictState,
    pub(crate) text: String,
}

/// The branches that are planned.
#[derive(Debug)]
pub(crate) struct Branches {
    globs: Vec<BranchGlob>,
    under_way: BTreeSet<CommitId>,
    /// One plan at a time: looks at machines are for the tracked branch first.
    slot: Arc<Semaphore>,
    said: mpsc::UnboundedSender<Planned>,
    problem: Option<String>,
}

impl Branches {
    /// Checks the patterns; plans come out of the channel.
    pub(crate) fn new(
        patterns: &[String],
    ) -> Result<(Self, mpsc::UnboundedReceiver<Planned>), Failure> {
        let globs: Result<Vec<BranchGlob>, String> =
            patterns.iter().map(|text| text.parse()).collect();
        let globs = globs.map_err(|why| {
            Failure::new(
                "TU0932",
                format!("plan.branches in the host configuration: {why}"),
            )
            .next("trueup run, when it is right")
        })?;
        let (said, receiver) = mpsc::unbounded_channel();
        let branches = Self {
            globs,
            under_way: BTreeSet::new(),
            slot: Arc::new(Semaphore::new(1)),
            said,
            problem: None,
        };
        Ok((branches, receiver))
    }

    /// Fetch, and begin with plans of tips that have none.
    pub(crate) async fn look(&mut self, runtime: &Runtime) {
        if self.globs.is_empty() {
            return;
        }
        let host = &runtime.host;
        let url = &host.settings.repo.url;
        let tips = match host
            .mirror
            .fetch_matching(url, &self.globs, FETCH_LIMIT)
            .await
        {
            Ok(tips) => tips,
            Err(error) => {
                let why = error.to_string();
                if self.problem.as_ref() != Some(&why) {
                    tracing::warn!(why, "the branches of plan.branches cannot be read");
                }
                self.problem = Some(why);
                return;
            }
        };
        self.problem = None;
        let context = format!("trueup/{}/plan", host.settings.fleet);
        let new = tips.into_iter().map(|(_, commit)| commit).filter(|commit| {
            runtime.tip() != Some(commit)
                && !self.under_way.contains(commit)
                && matches!(host.store.newest(commit, &context), Ok(None))
        });
        let new: BTreeSet<CommitId> = new.take(BEGUN_MAX).collect();
        for commit in new {
            self.under_way.insert(commit.clone());
            self.begin(runtime, commit);
        }
    }

    /// A plan was said: its tip needs no other.
    pub(crate) fn done(&mut self, commit: &CommitId) {
        self.under_way.remove(commit);
    }

    fn begin(&self, runtime: &Runtime, id: CommitId) {
        let planned = match Commit::load(&runtime.host, id.clone(), runtime.commit.as_ref()) {
            Ok(commit) => match (commit.first_error(), commit.plan) {
                (None, Some(sound)) => {
                    self.plan(runtime, id, sound);
                    return;
                }
                (first, _) => (VerdictState::Failure, first.unwrap_or_default()),
            },
            Err(error) => (VerdictState::Failure, error.to_string()),
        };
        self.send(id, planned);
    }

    fn send(&self, commit: CommitId, (state, text): (VerdictState, String)) {
        let planned = Planned {
            commit,
            state,
            text,
        };
        // Nobody listens when the loop ends.
        drop(self.said.send(planned));
    }

    fn plan(&self, runtime: &Runtime, id: CommitId, sound: Sound) {
        let units: Vec<(DesiredUnit, Context)> = sound
            .desired
            .units
            .values()
            .map(|unit| (unit.clone(), runtime.context_of(unit, &id)))
            .collect();
        let (slot, said) = (Arc::clone(&self.slot), self.said.clone());
        let store = Arc::clone(&runtime.host.store);
        let holder = runtime.host.holder.clone();
        tokio::spawn(async move {
            let Ok(_permit) = slot.acquire_owned().await else {
                return;
            };
            let work = plan_all(&sound, &store, &holder, units);
            let (state, text) = match tokio::time::timeout(PLAN_LIMIT, work).await {
                Ok(plans) => (VerdictState::Success, summary(&plans)),
                Err(_) => {
                    let limit = PLAN_LIMIT.as_secs();
                    let why = format!("not planned: the looks took longer than {limit} s");
                    (VerdictState::Error, why)
                }
            };
            drop(said.send(Planned {
                commit: id,
                state,
                text,
            }));
        });
    }
}

async fn plan_all(
    sound: &Sound,
    store: &Arc<dyn Store>,
    holder: &str,
    units: Vec<(DesiredUnit, Context)>,
) -> Vec<UnitPlan> {
    let plans = units.into_iter().map(|(unit, mut context)| async move {
        let cluster = unit.cluster.as_ref().map(|cluster| &cluster.name);
        let vault = Arc::clone(&sound.vault);
        let comparer = Comparer::only_looking(cluster, vault, Arc::clone(store));
        let seen = Box::pin(look(&sound.world, &unit, &context, &comparer)).await;
        if matches!(store.epoch(&unit.id), Ok(None)) {
            context.claim.epoch = newest_epoch(&seen, Some(holder)) + 1;
        }
        forecast(&unit, &seen, &context)
    });
    stream::iter(plans).buffered(LOOKS_AT_ONCE).collect().await
}

/// `3 steps, 1 held`.
fn summary(plans: &[UnitPlan]) -> String {
    let steps = plans.iter().map(|plan| plan.steps().count()).sum();
    let held = plans.iter().map(|plan| plan.left.len()).sum();
    let unknown = plans
        .iter()
        .flat_map(|plan| &plan.frontier.waits)
        .filter(|wait| wait.kind == WaitKind::Unknown)
        .count();
    match unknown {
        0 => sizes(steps, held),
        // No plan is whole without it, and a success must not hide that.
        count => format!("{}, {count} unknown", sizes(steps, held)),
    }
}

/// A plan in a few words.
pub(crate) fn sizes(steps: usize, held: usize) -> String {
    let steps = match steps {
        0 if held == 0 => return "no changes".to_owned(),
        1 => "1 step".to_owned(),
        steps => format!("{steps} steps"),
    };
    match held {
        0 => steps,
        held => format!("{steps}, {held} held"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_in_a_few_words() {
        assert_eq!(sizes(0, 0), "no changes");
        assert_eq!(sizes(1, 0), "1 step");
        assert_eq!(sizes(3, 1), "3 steps, 1 held");
        assert_eq!(sizes(0, 2), "0 steps, 2 held");
    }

    #[test]
    fn patterns_are_checked_at_the_start() {
        let error = Branches::new(&["a*b*".to_owned()]).unwrap_err();
        assert!(error.message.contains("plan.branches"), "{}", error.message);
    }
}
