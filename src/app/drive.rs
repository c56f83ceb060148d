//! Drives engines: looks and steps are tasks, their ends are events. `apply` drives
//! until nothing more can be done, `run` for ever.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use trueup_core::desired::DesiredUnit;
use trueup_core::engine::{Effect, Event, UnitEngine};
use trueup_core::observed::SeenUnit;
use trueup_core::plan::Context;
use trueup_model::id::{Digest, UnitId};
use trueup_model::step::{Outcome, Step};

use super::compare::Comparer;
use super::look::look;
use super::perform::Performer;

/// What a task reports.
#[derive(Debug)]
pub(crate) enum Report {
    /// A look ended.
    Looked(UnitId, Box<SeenUnit>),
    /// A step ended.
    Ended(UnitId, Digest, Outcome),
    /// A time that was asked for has come.
    Time(UnitId),
}

/// What a unit's tasks need.
#[derive(Debug, Clone)]
pub(crate) struct Means {
    /// Performs steps.
    pub(crate) performer: Performer,
    /// Compares objects.
    pub(crate) comparer: Arc<Comparer>,
}

/// Starts tasks for effects; their reports come out of one channel.
#[derive(Debug)]
pub(crate) struct Driver {
    means: BTreeMap<UnitId, Means>,
    reports: mpsc::UnboundedSender<Report>,
    timers: Mutex<BTreeMap<UnitId, JoinHandle<()>>>,
}

impl Driver {
    /// A driver and the channel of its reports.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Report>) {
        let (reports, receiver) = mpsc::unbounded_channel();
        let driver = Self {
            means: BTreeMap::new(),
            reports,
            timers: Mutex::default(),
        };
        (driver, receiver)
    }

    /// Where reports go in.
    pub(crate) fn reports(&self) -> mpsc::UnboundedSender<Report> {
        self.reports.clone()
    }

    /// What a unit's tasks use from now on.
    pub(crate) fn equip(&mut self, unit: UnitId, means: Means) {
        self.means.insert(unit, means);
    }

    /// Start what an effect asks for. Words on the commit are the caller's.
    pub(crate) fn start(
        &self,
        unit: &UnitId,
        context: &Context,
        desired: &Arc<DesiredUnit>,
        effect: Effect,
        now_s: i64,
    ) {
        match effect {
            Effect::Look => self.look(unit, context, desired),
            Effect::Perform(steps) => self.perform(unit, context, desired, steps),
            Effect::WakeAt(at_s) => {
                let seconds = u64::try_from(at_s - now_s).unwrap_or(0);
                let (unit, reports) = (unit.clone(), self.reports.clone());
                let key = unit.clone();
                let timer = tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                    let _over = reports.send(Report::Time(unit));
                });
                // One timer per unit: an older one would look once too often, for ever.
                let mut timers = self.timers.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(before) = timers.insert(key, timer) {
                    before.abort();
                }
            }
            Effect::Decide(_) | Effect::Tell(_) => {}
        }
    }

    fn look(&self, unit: &UnitId, context: &Context, desired: &Arc<DesiredUnit>) {
        let Some(means) = self.means.get(unit).cloned() else {
            return;
        };
        let (unit, reports) = (unit.clone(), self.reports.clone());
        let (context, desired) = (context.clone(), Arc::clone(desired));
        tokio::spawn(async move {
            let world = &means.performer.world;
            let seen = Box::pin(look(world, &desired, &context, &means.comparer)).await;
            let _over = reports.send(Report::Looked(unit, Box::new(seen)));
        });
    }

    fn perform(
        &self,
        unit: &UnitId,
        context: &Context,
        desired: &Arc<DesiredUnit>,
        steps: Vec<Step>,
    ) {
        let Some(means) = self.means.get(unit).cloned() else {
            return;
        };
        let (unit, reports) = (unit.clone(), self.reports.clone());
        let (context, desired) = (context.clone(), Arc::clone(desired));
        tokio::spawn(async move {
            let ids: Vec<Digest> = steps.iter().map(|step| step.id.clone()).collect();
            let (told, mut ends) = mpsc::unbounded_channel();
            let work = tokio::spawn(async move {
                Box::pin(means.performer.perform(&desired, &context, steps, &told)).await;
            });
            let mut open: std::collections::BTreeSet<Digest> = ids.into_iter().collect();
            while let Some((id, outcome)) = ends.recv().await {
                open.remove(&id);
                let _over = reports.send(Report::Ended(unit.clone(), id, outcome));
            }
            // A task that died without a word: its steps are unknown, never forgotten.
            if let Err(error) = work.await {
                tracing::error!(%error, "a step's task died");
            }
            for id in open {
                let outcome = Outcome::Unknown("its task ended without a word".to_owned());
                let _over = reports.send(Report::Ended(unit.clone(), id, outcome));
            }
        });
    }
}

/// One unit being driven.
#[derive(Debug)]
pub(crate) struct Driven {
    /// Its engine.
    pub(crate) engine: UnitEngine,
    /// The context that its tasks see.
    pub(crate) context: Context,
}

impl Driven {
    /// Give the engine an event; effects come back after their tasks were started.
    pub(crate) fn on(
        &mut self,
        driver: &Driver,
        unit: &UnitId,
        event: Event,
        now_s: i64,
    ) -> Vec<Effect> {
        let effects = self.engine.on(event, now_s);
        self.context.now_s = now_s;
        for effect in &effects {
            let desired = Arc::clone(self.engine.desired());
            driver.start(unit, &self.context, &desired, effect.clone(), now_s);
        }
        effects
    }
}
