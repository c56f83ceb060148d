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
    /// A look is under way; `again`: something happened meanwhile.
    Looking {
        /// Look once more when it ends.
        again: bool,
    },
    /// These steps are under way.
    Performing(BTreeSet<Digest>),
}

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
    stopping: bool,
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
            stopping: false,
            done: 0,
        }
    }

    /// What the last look came to.
    pub fn round(&self) -> Option<&Round> {
        self.round.as_ref()
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

    fn renew(&mut self, desired: Arc<DesiredUnit>, context: Context, now_s: i64) {
        if self.context.commit != context.commit {
            self.began_s = now_s;
            self.decided = false;
            self.told = None;
            self.done = 0;
            self.retries = Retries::default();
        }
        self.desired = desired;
        self.context = context;
    }

    fn look(&mut self) -> Vec<Effect> {
        match &mut self.phase {
            Phase::Idle => {
                self.phase = Phase::Looking { again: false };
                vec![Effect::Look]
            }
            Phase::Looking { again } => {
                *again = true;
                Vec::new()
            }
            // A look follows when the steps have ended.
            Phase::Performing(_) => Vec::new(),
        }
    }

    fn looked(&mut self, seen: &SeenUnit, now_s: i64) -> Vec<Effect> {
        let again = matches!(self.phase, Phase::Looking { again: true });
        self.context.now_s = now_s;
        self.context.backoff = self.retries.waiting(now_s);
        let round = round(&self.desired, seen, &self.context);
        let ready = round.ready.clone();
        self.round = Some(round);
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
                self.retries.forget(id);
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
        self.phase = Phase::Looking { again: false };
        vec![Effect::Look]
    }
}
