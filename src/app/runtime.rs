//! A fleet being worked on: the tip of its branch, an engine per unit, and what
//! people said (grants, pauses). `plan`, `apply` and `run` all stand on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use trueup_core::desired::DesiredUnit;
use trueup_core::engine::{Effect, Event, Judgement, UnitEngine};
use trueup_core::observed::SeenUnit;
use trueup_core::plan::{Context, Round, UnitPlan, forecast, round};
use trueup_model::facts::Known;
use trueup_model::facts::etcd::EtcdFacts;
use trueup_model::id::{Claim, CommitId, Digest, NodeName, UnitId};
use trueup_model::port::StoreError;
use trueup_model::port::store::{Settled, Store};
use trueup_model::step::{Outcome, Step};
use trueup_model::verdict::VerdictState;

use super::clock::now_s;
use super::commit::{Commit, Sound};
use super::compare::Comparer;
use super::drive::{Driven, Driver, Means, Report};
use super::host::Host;
use super::look::look;
use super::perform::Performer;

/// Units that are looked at at the same time. Each costs a few open files; hundreds of
/// key exchanges at once would keep all of them waiting past their deadlines.
pub(crate) const LOOKS_AT_ONCE: usize = 32;

/// What a look at a unit gave.
#[derive(Debug)]
struct Look {
    unit: UnitId,
    desired: Arc<DesiredUnit>,
    context: Context,
    seen: SeenUnit,
}

/// A fleet being worked on.
#[derive(Debug)]
pub struct Runtime {
    /// This host.
    pub host: Host,
    /// The commit that is worked on.
    pub commit: Option<Commit>,
    pub(crate) driver: Driver,
    pub(crate) reports: UnboundedReceiver<Report>,
    pub(crate) units: BTreeMap<UnitId, Driven>,
    means: BTreeMap<UnitId, Means>,
    /// Last facts, for plans and statuses.
    pub(crate) seen: BTreeMap<UnitId, (i64, SeenUnit)>,
    /// Since when each line of a unit's status has stood.
    since: BTreeMap<UnitId, BTreeMap<String, i64>>,
    /// Rounds of units that no engine drives (`status` without a loop).
    pub(crate) rounds: BTreeMap<UnitId, Round>,
    /// Steps that a plan file allows; `None`: all.
    pub(crate) allowed: Option<BTreeSet<Digest>>,
    /// Why nothing of the tip may be carried out.
    pub(crate) held: Option<String>,
    /// Why the branch cannot be read.
    pub(crate) branch_problem: Option<String>,
    /// The newest tip, where it cannot be used.
    pub(crate) broken: Option<Commit>,
    /// Who is told of every step's beginning and end.
    pub(crate) watcher: Option<UnboundedSender<Happening>>,
}

/// What a watcher is told.
#[derive(Debug)]
pub(crate) enum Happening {
    /// Steps begin; etcd as the look that allowed them saw it, where it was asked.
    Begin(Vec<Step>, Option<EtcdFacts>),
    /// A step has ended.
    End(Digest, Outcome),
    /// A look proposed nothing that may start.
    Rest(Round),
}

impl Runtime {
    /// A runtime on this host.
    pub fn new(host: Host) -> Self {
        let (driver, reports) = Driver::new();
        Self {
            host,
            commit: None,
            driver,
            reports,
            units: BTreeMap::new(),
            means: BTreeMap::new(),
            seen: BTreeMap::new(),
            rounds: BTreeMap::new(),
            since: BTreeMap::new(),
            allowed: None,
            held: None,
            branch_problem: None,
            broken: None,
            watcher: None,
        }
    }

    fn store(&self) -> &Arc<dyn Store> {
        &self.host.store
    }

    /// The sound part of the commit.
    pub(crate) fn sound(&self) -> Option<&Sound> {
        self.commit.as_ref()?.plan.as_ref()
    }

    /// Work on this commit from now on. Units that are gone are no longer looked at;
    /// nothing on them is touched.
    pub(crate) fn take(&mut self, commit: Commit) {
        self.commit = Some(commit);
        let Some(sound) = self.sound().cloned() else {
            return;
        };
        self.means.clear();
        for (id, unit) in &sound.desired.units {
            let comparer = Comparer::new(
                unit.cluster.as_ref().map(|cluster| &cluster.name),
                Arc::clone(&sound.vault),
                Arc::clone(self.store()),
            );
            let means = Means {
                performer: Performer {
                    world: Arc::clone(&sound.world),
                    vault: Arc::clone(&sound.vault),
                    store: Arc::clone(self.store()),
                },
                comparer: Arc::new(comparer),
            };
            self.driver.equip(id.clone(), means.clone());
            self.means.insert(id.clone(), means);
        }
        self.units
            .retain(|id, _| sound.desired.units.contains_key(id));
        self.seen
            .retain(|id, _| sound.desired.units.contains_key(id));
    }

    /// The desired state of a unit.
    pub(crate) fn desired(&self, unit: &UnitId) -> Option<Arc<DesiredUnit>> {
        let unit = self.sound()?.desired.units.get(unit)?;
        Some(Arc::new(unit.clone()))
    }

    /// All units of the commit.
    pub fn unit_ids(&self) -> Vec<UnitId> {
        self.sound()
            .map(|sound| sound.desired.units.keys().cloned().collect())
            .unwrap_or_default()
    }

    /// What a plan of this unit depends on. `epoch` is what was found on its targets,
    /// where the store knows none.
    pub(crate) fn context(&self, unit: &UnitId, epoch: Option<u64>) -> Context {
        let now = now_s();
        let store = self.store();
        let stored = store.epoch(unit).ok().flatten();
        let take_over = store.get(&take_over_key(unit)).ok().flatten().is_some();
        let grants = store
            .grants(seconds(now))
            .unwrap_or_default()
            .into_iter()
            .map(|grant| Digest(grant.id))
            .collect();
        let mut paused = None;
        let mut paused_apps = BTreeMap::new();
        let pauses = store.pauses(seconds(now)).unwrap_or_else(|error| {
            // Whether somebody asked for quiet is not known: be quiet.
            paused = Some(error.to_string());
            Vec::new()
        });
        for pause in pauses {
            let why = format!("{} ({})", pause.reason, pause.author);
            if pause.target == unit.to_string() {
                paused = Some(why);
            } else if let Some(Ok(app)) = pause.target.strip_prefix("app/").map(str::parse) {
                paused_apps.insert(app, why);
            }
        }
        let commit = self
            .commit
            .as_ref()
            .map(|commit| commit.id.as_str().to_owned());
        let digest = self.desired(unit).map(|unit| unit_digest(&unit));
        let settled = store.settled(unit).ok().flatten();
        Context {
            claim: Claim {
                holder: self.host.holder.clone(),
                epoch: stored.or(epoch).unwrap_or(1),
            },
            take_over,
            ceiling: self.host.settings.ceiling(unit),
            commit: commit.unwrap_or_default(),
            grants,
            allowed: self.allowed.clone(),
            paused,
            paused_on_cluster: store.get(&annotated_key(&unit.to_string())).ok().flatten(),
            paused_apps,
            held: self.held.clone(),
            backoff: BTreeMap::new(),
            settled: settled.is_some_and(|settled| Some(settled.digest) == digest),
            labels_before: self.labels_before(unit),
            now_s: now,
        }
    }

    /// Labels that were declared when the unit was last true.
    fn labels_before(&self, unit: &UnitId) -> BTreeMap<NodeName, BTreeMap<String, String>> {
        let stored = self.store().get(&labels_key(unit)).ok().flatten();
        let text = stored.unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// What a plan of a unit depends on, as a commit wants it that is not the tip.
    pub(crate) fn context_of(&self, desired: &DesiredUnit, commit: &CommitId) -> Context {
        let settled = self.store().settled(&desired.id).ok().flatten();
        let digest = unit_digest(desired);
        Context {
            commit: commit.as_str().to_owned(),
            settled: settled.is_some_and(|settled| settled.digest == digest),
            held: None,
            allowed: None,
            ..self.context(&desired.id, None)
        }
    }

    /// Look at units now, all at the same time, outside of their engines: what one
    /// machine that is off costs is waited for once.
    async fn look_now(&mut self, units: &[UnitId]) -> Vec<Look> {
        let mut looks = Vec::new();
        for unit in units {
            if let (Some(desired), Some(means)) = (self.desired(unit), self.means.get(unit)) {
                let (means, context) = (means.clone(), self.context(unit, None));
                looks.push(async move {
                    let world = &means.performer.world;
                    let seen = look(world, &desired, &context, &means.comparer).await;
                    (unit.clone(), desired, seen)
                });
            }
        }
        let looks: Vec<_> = stream::iter(looks).buffered(LOOKS_AT_ONCE).collect().await;
        looks
            .into_iter()
            .map(|(unit, desired, seen)| {
                let found = newest_epoch(&seen, Some(&self.host.holder));
                let context = self.context(&unit, Some(found + 1));
                self.remember_annotation(&unit, &seen);
                self.seen.insert(unit.clone(), (now_s(), seen.clone()));
                Look {
                    unit,
                    desired,
                    context,
                    seen,
                }
            })
            .collect()
    }

    /// A pause on the cluster itself holds also while its API does not answer.
    fn remember_annotation(&self, unit: &UnitId, seen: &SeenUnit) {
        let Some(Known::Known(api)) = seen.cluster.as_ref().map(|cluster| &cluster.api) else {
            return;
        };
        let key = annotated_key(&unit.to_string());
        let stored = self.store().get(&key).ok().flatten();
        if stored == api.paused {
            return;
        }
        let done = match &api.paused {
            Some(why) => self.store().put(&key, why),
            None => self.store().remove(&key).map(drop),
        };
        if let Err(error) = done {
            tracing::warn!(%unit, %error, "the pause on the cluster is not remembered");
        }
    }

    /// Plans of units on fresh looks, in their order.
    pub(crate) async fn plans(&mut self, units: &[UnitId]) -> Vec<UnitPlan> {
        let looks = self.look_now(units).await;
        looks
            .iter()
            .map(|look| forecast(&look.desired, &look.seen, &look.context))
            .collect()
    }

    /// Look at units and remember what plans would come to; nothing is started.
    pub(crate) async fn observe(&mut self, units: &[UnitId]) {
        for look in self.look_now(units).await {
            let found = round(&look.desired, &look.seen, &look.context);
            self.rounds.insert(look.unit, found);
        }
    }

    /// Findings of the commit, a line each.
    pub(crate) fn findings_lines(&self) -> Vec<String> {
        let newest = self.broken.as_ref().or(self.commit.as_ref());
        let findings = newest
            .into_iter()
            .flat_map(|commit| &commit.loaded.findings);
        findings
            .map(|finding| format!("{}: {}", finding.place(), finding.message))
            .collect()
    }

    /// Steps and held steps of all units to the end; `None` until every unit was
    /// looked at for this commit.
    pub(crate) fn forecast_sizes(&self) -> Option<(usize, usize)> {
        let mut sizes = (0, 0);
        for unit in self.unit_ids() {
            let looked = self.units.get(&unit)?.engine.has_seen_commit();
            let (_, seen) = self.seen.get(&unit).filter(|_| looked)?;
            let desired = self.desired(&unit)?;
            let plan = forecast(&desired, seen, &self.context(&unit, None));
            sizes.0 += plan.steps().count();
            sizes.1 += plan.left.len();
        }
        Some(sizes)
    }

    /// Make sure of the epochs under which units are written to: the one that the store
    /// knows, else one more than any that a unit's targets know of us.
    pub(crate) async fn establish(&mut self, units: &[UnitId]) -> Vec<(UnitId, Context)> {
        let (known, new): (Vec<&UnitId>, Vec<&UnitId>) = units
            .iter()
            .partition(|unit| self.store().epoch(unit).ok().flatten().is_some());
        let new: Vec<UnitId> = new.into_iter().cloned().collect();
        let mut contexts: BTreeMap<UnitId, Context> = known
            .into_iter()
            .map(|unit| (unit.clone(), self.context(unit, None)))
            .collect();
        for Look { unit, seen, .. } in self.look_now(&new).await {
            let epoch = newest_epoch(&seen, Some(&self.host.holder)) + 1;
            if let Err(error) = self.store().set_epoch(&unit, epoch) {
                tracing::warn!(%unit, %error, "the epoch is not recorded");
            }
            let context = self.context(&unit, Some(epoch));
            contexts.insert(unit, context);
        }
        contexts.into_iter().collect()
    }

    /// Start the engine of a unit, or give it the new commit.
    pub(crate) fn engage(&mut self, unit: &UnitId, context: Context) -> Vec<Effect> {
        let Some(desired) = self.desired(unit) else {
            return Vec::new();
        };
        let now = now_s();
        let deadline = self.host.settings.apply.deadline_s;
        let decided = self.decided_before(unit, &context);
        let driven = self.units.entry(unit.clone()).or_insert_with(|| {
            let mut engine = UnitEngine::new(Arc::clone(&desired), context.clone(), deadline, now);
            if let Some(judgement) = decided {
                engine.was_decided(judgement);
            }
            Driven {
                engine,
                context: context.clone(),
            }
        });
        driven.context = context.clone();
        let event = Event::Desired(desired, Box::new(context));
        driven.on(&self.driver, unit, event, now)
    }

    /// An earlier run decided this commit for this unit: that is not said twice.
    fn decided_before(&self, unit: &UnitId, context: &Context) -> Option<Judgement> {
        let settled = self.store().settled(unit).ok().flatten();
        let by_this_commit =
            |settled: Settled| context.settled && settled.commit.as_str() == context.commit;
        if settled.is_some_and(by_this_commit) {
            return Some(Judgement {
                state: VerdictState::Success,
                description: "true".to_owned(),
            });
        }
        // A context that several machines share does not tell which of them failed.
        let UnitId::Cluster(_) = unit else {
            return None;
        };
        let fleet = &self.host.settings.fleet;
        let name = format!("trueup/{fleet}/apply/{}", unit.context());
        let said = self.store().newest(self.tip()?, &name).ok().flatten()?;
        (said.verdict.state == VerdictState::Failure).then(|| Judgement {
            state: VerdictState::Failure,
            description: said.verdict.description.clone(),
        })
    }

    /// Grants, pauses or switches changed: tell the engines.
    pub(crate) fn refresh(&mut self) {
        let ids: Vec<UnitId> = self.units.keys().cloned().collect();
        for unit in ids {
            let context = self.context(&unit, None);
            if let Some(driven) = self.units.get_mut(&unit) {
                driven.context = context.clone();
                driven.on(
                    &self.driver,
                    &unit,
                    Event::Context(Box::new(context)),
                    now_s(),
                );
            }
        }
    }

    /// Hand a report to its engine.
    pub(crate) fn report(&mut self, report: Report) -> Option<(UnitId, Vec<Effect>)> {
        let now = now_s();
        let (unit, event) = match report {
            Report::Looked(unit, seen) => {
                self.remember_annotation(&unit, &seen);
                self.seen.insert(unit.clone(), (now, (*seen).clone()));
                // Grants and pauses end by themselves: a look is judged by those of now.
                let context = self.context(&unit, None);
                if let Some(driven) = self.units.get_mut(&unit) {
                    driven.context = context.clone();
                    driven.engine.inform(context);
                }
                (unit, Event::Looked(seen))
            }
            Report::Ended(unit, id, outcome) => {
                self.watched(|| Happening::End(id.clone(), outcome.clone()));
                (unit, Event::Ended(id, outcome))
            }
            Report::Time(unit) => {
                // A wake-up that was asked for; the engine may be busy, which is fine.
                (unit, Event::Wake)
            }
        };
        let driven = self.units.get_mut(&unit)?;
        let effects = driven.on(&self.driver, &unit, event, now);
        let round = driven.engine.round().filter(|_| driven.engine.is_idle());
        let rest = round.cloned();
        let lines = driven.engine.round().map(round_keys).unwrap_or_default();
        let since = self.since.entry(unit.clone()).or_default();
        since.retain(|line, _| lines.contains(line));
        for line in lines {
            since.entry(line).or_insert(now);
        }
        for effect in &effects {
            if let Effect::Perform(steps) = effect {
                self.watched(|| Happening::Begin(steps.clone(), self.etcd(&unit)));
            }
        }
        if let Some(round) = rest {
            self.watched(|| Happening::Rest(round));
        }
        Some((unit, effects))
    }

    fn watched(&self, what: impl FnOnce() -> Happening) {
        if let Some(watcher) = &self.watcher {
            let _gone = watcher.send(what());
        }
    }

    /// etcd as the last look at a unit saw it.
    fn etcd(&self, unit: &UnitId) -> Option<EtcdFacts> {
        let (_, seen) = self.seen.get(unit)?;
        seen.cluster.as_ref()?.etcd.known().cloned()
    }

    /// Since when a step or wait has stood in a unit's status.
    pub(crate) fn since(&self, unit: &UnitId, key: &str) -> Option<i64> {
        self.since.get(unit)?.get(key).copied()
    }

    /// Take a unit over: an epoch that is newer than any that its targets know.
    pub(crate) async fn take_over(&mut self, unit: &UnitId, word: &str) -> Result<(), StoreError> {
        let looks = self.look_now(std::slice::from_ref(unit)).await;
        let newest = looks
            .first()
            .map_or(0, |look| newest_epoch(&look.seen, None));
        self.store().set_epoch(unit, newest + 1)?;
        self.store().put(&take_over_key(unit), word)
    }

    /// Remember that a unit became true to the commit.
    pub(crate) fn settle(&self, unit: &UnitId) {
        let (Some(commit), Some(desired)) = (&self.commit, self.desired(unit)) else {
            return;
        };
        let settled = Settled {
            commit: commit.id.clone(),
            digest: unit_digest(&desired),
            at_s: seconds(now_s()),
        };
        if let Err(error) = self.store().set_settled(unit, &settled) {
            tracing::warn!(%unit, %error, "that the unit is true is not recorded");
        }
        let labels: BTreeMap<&NodeName, _> = desired
            .machines
            .iter()
            .map(|(name, machine)| (name, &machine.labels))
            .collect();
        let text = serde_json::to_string(&labels).unwrap_or_default();
        if let Err(error) = self.store().put(&labels_key(unit), &text) {
            tracing::warn!(%unit, %error, "the labels that are true are not recorded");
        }
        if let Err(error) = self.store().remove(&take_over_key(unit)) {
            tracing::warn!(%unit, %error, "the take-over is not forgotten");
        }
    }

    /// The commit's id.
    pub fn tip(&self) -> Option<&CommitId> {
        self.commit.as_ref().map(|commit| &commit.id)
    }
}

/// What a status line is known by, whatever its numbers say now.
pub(crate) fn step_key(step: &trueup_model::step::Step) -> String {
    format!("step {}", step.id)
}

/// What a wait is known by.
pub(crate) fn wait_key(wait: &trueup_core::plan::Wait) -> String {
    format!("wait {} {:?}", wait.subject, wait.kind)
}

fn round_keys(round: &Round) -> BTreeSet<String> {
    let held = round.held.iter().map(|held| &held.step);
    let steps = round.ready.iter().chain(held).map(step_key);
    steps.chain(round.waits.iter().map(wait_key)).collect()
}

/// The store's key of a take-over that somebody asked for.
pub(crate) fn take_over_key(unit: &UnitId) -> String {
    format!("take-over/{unit}")
}

/// The store's key of the labels that a unit was last true with.
fn labels_key(unit: &UnitId) -> String {
    format!("labels/{unit}")
}

/// The store's key of a pause that was last seen on the cluster itself.
pub(crate) fn annotated_key(unit: &str) -> String {
    format!("annotated-pause/{unit}")
}

/// Seconds for the store; the clock is not before 1970.
pub(crate) fn seconds(at_s: i64) -> u64 {
    u64::try_from(at_s).unwrap_or(0)
}

/// The newest epoch that any target knows: of one holder, or of all.
pub(crate) fn newest_epoch(seen: &SeenUnit, holder: Option<&str>) -> u64 {
    let machines = seen.machines.values().filter_map(|facts| {
        let record = facts.known()?.owner.as_ref()?;
        record.claim.as_ref()
    });
    let cluster = seen
        .cluster
        .as_ref()
        .and_then(|cluster| cluster.api.known())
        .and_then(|api| api.owner.as_ref())
        .map(|owner| &owner.claim);
    machines
        .chain(cluster)
        .filter(|claim| holder.is_none_or(|holder| claim.holder == holder))
        .map(|claim| claim.epoch)
        .max()
        .unwrap_or(0)
}

/// Digest of what a unit is to be: equal digests, equal wishes.
pub(crate) fn unit_digest(unit: &DesiredUnit) -> Digest {
    let mut text = String::new();
    for machine in unit.machines.values() {
        text.push_str(&format!("{machine:?}\n"));
    }
    text.push_str(&format!("{:?}\n", unit.cluster));
    for app in unit.apps.values() {
        for (object, wanted) in &app.objects {
            text.push_str(&format!("{} {object} {}\n", app.name, wanted.digest));
        }
    }
    Digest::of(text.as_bytes())
}

#[cfg(test)]
mod tests;
