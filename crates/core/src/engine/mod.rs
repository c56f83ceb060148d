//! The engine of one unit: a state machine without I/O and clock. What happened
//! goes in, what is to be done comes out. `apply` and `run` are drivers of it.

mod retry;
mod verdict;

use std::collections::BTreeSet;
use std::sync::Arc;

use trueup_model::id::Digest;
use trueup_model::step::{Outcome, Step};
use trueup_model::verdict::VerdictState;

use crate::desired::DesiredUnit;
use crate::observed::SeenUnit;
use crate::plan::{Context, Round, WaitKind, round};

pub use retry::Retries;
pub use verdict::{Judgement, judge};

/// What happened. Wake-ups carry no data: a pass always reads the whole state.
#[derive(Debug)]
pub enum Event {
    /// A commit (or the same one again) wants this.
    Desired(Arc<DesiredUnit>, Box<Context>),
    /// Grants, pauses or switches changed.
    Context(Box<Context>),
    /// Something may have changed.
    Wake,
    /// A look ended.
    Looked(Box<SeenUnit>),
    /// A step ended.
    Ended(Digest, Outcome),
    /// No new step from now on; what runs goes on.
    Stop,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Look at everything of the unit.
    Look,
    /// Perform these steps: those of one machine in this order, the rest at the
    /// same time. Each ends with [`Event::Ended`].
    Perform(Vec<Step>),
    /// Say this of the commit, once and for all.
    Decide(Judgement),
    /// Say this of the commit for now.
    Tell(Judgement),
    /// Wake me at this time (seconds since 1970).
    WakeAt(i64),
}

/// What the engine is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Nothing; it looks again at a time that it said.
    Idle,
    /// A look is under way.
    Looking {
        /// Something happened meanwhile: look once more when it ends.
        again: bool,
        /// It was begun for another commit: what it saw is not judged.
        stale: bool,
    },
    /// These steps are under way.
    Performing(BTreeSet<Digest>),
}

/// A look that nothing has happened since.
const FRESH_LOOK: Phase = Phase::Looking {
    again: false,
    stale: false,
};

/// Machines are looked at once a minute, and after each step.
pub const LOOK_EVERY_S: i64 = 60;
/// While something is on its way it is looked at this often.
pub const PROGRESS_EVERY_S: i64 = 2;

/// The engine of one unit.
#[derive(Debug)]
pub struct UnitEngine {
    desired: Arc<DesiredUnit>,
    context: Context,
    /// Seconds after which what is not true is a failure.
    deadline_s: i64,
    phase: Phase,
    retries: Retries,
    /// When this commit came.
    began_s: i64,
    decided: bool,
    told: Option<Judgement>,
    round: Option<Round>,
    /// The last look was made for the commit that is worked on.
    fresh: bool,
    stopping: bool,
    /// Steps that ended well since the last look.
    just_done: BTreeSet<Digest>,
    /// Steps that ended well since the commit came.
    pub done: usize,
}

impl UnitEngine {
    /// An engine that has seen nothing.
    pub fn new(desired: Arc<DesiredUnit>, context: Context, deadline_s: i64, now_s: i64) -> Self {
        Self {
            desired,
            context,
            deadline_s,
            phase: Phase::Idle,
            retries: Retries::default(),
            began_s: now_s,
            decided: false,
            told: None,
            round: None,
            fresh: false,
            stopping: false,
            just_done: BTreeSet::new(),
            done: 0,
        }
    }

    /// What the last look came to.
    pub fn round(&self) -> Option<&Round> {
        self.round.as_ref()
    }

    /// A look was made for the commit that is worked on: what was seen before it says
    /// nothing of what the commit declares.
    pub fn has_seen_commit(&self) -> bool {
        self.fresh
    }

    /// What it is doing.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// What it is to make true.
    pub fn desired(&self) -> &Arc<DesiredUnit> {
        &self.desired
    }

    /// Nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Idle
    }

    /// What was last said of the commit.
    pub fn told(&self) -> Option<&Judgement> {
        self.told.as_ref()
    }

    /// Take in what happened; what is to be done comes out.
    pub fn on(&mut self, event: Event, now_s: i64) -> Vec<Effect> {
        match event {
            Event::Desired(desired, context) => {
                self.renew(desired, *context, now_s);
                if let Phase::Looking { stale, .. } = &mut self.phase {
                    *stale = true;
                }
                self.look()
            }
            Event::Context(context) => {
                self.context = *context;
                self.look()
            }
            Event::Wake => self.look(),
            Event::Looked(seen) => self.looked(&seen, now_s),
            Event::Ended(id, outcome) => self.ended(&id, outcome, now_s),
            Event::Stop => {
                self.stopping = true;
                Vec::new()
            }
        }
    }

    /// Grants, pauses and their ends, before a look is judged.
    pub fn inform(&mut self, context: Context) {
        let settled = self.context.settled || context.settled;
        self.context = Context { settled, ..context };
    }

    /// The commit was decided before, by an earlier run.
    pub fn was_decided(&mut self, judgement: Judgement) {
        self.decided = true;
        self.told = Some(judgement);
    }

    fn renew(&mut self, desired: Arc<DesiredUnit>, context: Context, now_s: i64) {
        // A commit that was held and is granted now is judged anew.
        let released = self.context.held.is_some() && context.held.is_none();
        if self.context.commit != context.commit || released {
            self.began_s = now_s;
            self.decided = false;
            self.told = None;
            self.done = 0;
            self.retries = Retries::default();
            self.fresh = false;
        }
        self.desired = desired;
        self.context = context;
    }

    fn look(&mut self) -> Vec<Effect> {
        match &mut self.phase {
            Phase::Idle => {
                self.phase = FRESH_LOOK;
                vec![Effect::Look]
            }
            Phase::Looking { again, .. } => {
                *again = true;
                Vec::new()
            }
            // A look follows when the steps have ended.
            Phase::Performing(_) => Vec::new(),
        }
    }

    fn looked(&mut self, seen: &SeenUnit, now_s: i64) -> Vec<Effect> {
        let again = match self.phase {
            Phase::Looking { stale: true, .. } => {
                self.phase = FRESH_LOOK;
                return vec![Effect::Look];
            }
            Phase::Looking { again, .. } => again,
            // A look that nobody waits for: another one follows the steps.
            Phase::Idle | Phase::Performing(_) => return Vec::new(),
        };
        let round = self.plan(seen, now_s);
        let ready = round.ready.clone();
        self.round = Some(round);
        self.fresh = true;
        // Steps are only ever started right after the look that allowed them.
        if !ready.is_empty() && !self.stopping {
            self.phase = Phase::Performing(ready.iter().map(|step| step.id.clone()).collect());
            let mut effects = self.tell(now_s);
            effects.push(Effect::Perform(ready));
            return effects;
        }
        let mut effects = self.tell(now_s);
        self.phase = Phase::Idle;
        if again {
            effects.extend(self.look());
        } else {
            effects.push(Effect::WakeAt(self.next_look(now_s)));
        }
        effects
    }

    /// A round. A step that was done and is proposed again did not make true what it
    /// was for: it counts as failed, and waits like any other.
    fn plan(&mut self, seen: &SeenUnit, now_s: i64) -> Round {
        self.context.now_s = now_s;
        self.context.backoff = self.retries.waiting(now_s);
        let first = round(&self.desired, seen, &self.context);
        let proposed: BTreeSet<&Digest> = first
            .ready
            .iter()
            .chain(first.held.iter().map(|held| &held.step))
            .map(|step| &step.id)
            .collect();
        self.retries.keep(&proposed);
        let in_vain: Vec<Digest> = std::mem::take(&mut self.just_done)
            .into_iter()
            .filter(|id| proposed.contains(id))
            .collect();
        if in_vain.is_empty() {
            return first;
        }
        for id in &in_vain {
            let why = "it was done, and what it is for is still not true".to_owned();
            self.retries.failed(id, why, now_s);
        }
        self.context.backoff = self.retries.waiting(now_s);
        round(&self.desired, seen, &self.context)
    }

    /// Tell what is new about the commit; a decision is said once.
    fn tell(&mut self, now_s: i64) -> Vec<Effect> {
        if self.decided {
            return Vec::new();
        }
        let Some(round) = &self.round else {
            return Vec::new();
        };
        let late = now_s - self.began_s >= self.deadline_s;
        let judgement = judge(&self.desired, round, &self.retries, late);
        if judgement.state != VerdictState::Pending {
            self.decided = true;
            if judgement.state == VerdictState::Success {
                self.context.settled = true;
            }
            self.told = Some(judgement.clone());
            return vec![Effect::Decide(judgement)];
        }
        if self.told.as_ref() == Some(&judgement) {
            return Vec::new();
        }
        self.told = Some(judgement.clone());
        vec![Effect::Tell(judgement)]
    }

    fn next_look(&self, now_s: i64) -> i64 {
        let moving = self.round.as_ref().is_some_and(|round| {
            round
                .waits
                .iter()
                .any(|wait| matches!(wait.kind, WaitKind::Progress | WaitKind::Unknown))
                || round.held.iter().any(|held| {
                    held.hold.verdict == crate::gate::Refusal::Wait && held.hold.gate != "backoff"
                })
        });
        let every = if moving && now_s - self.began_s < self.deadline_s {
            PROGRESS_EVERY_S
        } else {
            LOOK_EVERY_S
        };
        let look = now_s + every;
        self.retries
            .next(now_s)
            .map_or(look, |retry| retry.min(look))
    }

    fn ended(&mut self, id: &Digest, outcome: Outcome, now_s: i64) -> Vec<Effect> {
        match outcome {
            Outcome::Done => {
                self.done += 1;
                self.just_done.insert(id.clone());
            }
            Outcome::Failed(why) | Outcome::Unknown(why) | Outcome::Fenced(why) => {
                self.retries.failed(id, why, now_s);
            }
        }
        let Phase::Performing(pending) = &mut self.phase else {
            return Vec::new();
        };
        pending.remove(id);
        if !pending.is_empty() {
            return Vec::new();
        }
        self.phase = FRESH_LOOK;
        vec![Effect::Look]
    }
}
