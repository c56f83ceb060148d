//! The loop: watches the branch, converges the tip, watches for drift, says what is
//! true. Wake-ups carry no data; every pass reads the whole state.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};
use trueup_core::engine::{Effect, Event, Judgement};
use trueup_drivers::git::RefWatch;
use trueup_drivers::store::StateDirError;
use trueup_drivers::webhook::Receiver;
use trueup_model::id::{CommitId, UnitId};
use trueup_model::verdict::VerdictState;

use super::branches::{Branches, Planned, sizes};
use super::clock::now_s;
use super::commit::Commit;
use super::destinations::{Couriers, secret_line};
use super::drive::Report;
use super::office::Office;
use super::settings::Settings;
use super::socket::{self, Asked};
use super::tip;
use super::verdicts::Speaker;
use super::world::private_file;
use crate::cli::Failure;
use crate::cli::exit::Exit;

/// A local branch is looked at this often even when no event came: watches lose some.
const LOCAL_POLL: Duration = Duration::from_secs(15);
/// Steps that are under way are waited for so long when the loop is told to end; the
/// jobs themselves go on and are found again at the next start.
const SHUTDOWN: Duration = Duration::from_secs(8);
/// A plan of a fleet of which every machine is off takes no longer than this.
const PINGED_MAX: Duration = Duration::from_secs(240);
/// The unit's WatchdogSec is a minute or more.
const PING_EVERY: Duration = Duration::from_secs(10);
/// git packs its mirror this often, when nothing else is to be done.
const TIDY_EVERY: Duration = Duration::from_secs(24 * 3600);
/// Events of a cluster that come together are one wake-up.
const SETTLE: Duration = Duration::from_millis(150);

/// Run for ever.
pub async fn run(office: Box<Office>) -> Result<Exit, Failure> {
    serve(office, Arc::new(Notify::new())).await
}

/// Run until somebody says to end, or a signal comes.
pub(crate) async fn serve(office: Box<Office>, end: Arc<Notify>) -> Result<Exit, Failure> {
    let failure = |error: std::io::Error| Failure::new("TU0914", error.to_string());
    let mut requests = socket::listen(&office.runtime.host.settings).map_err(failure)?;
    let mut term = signal(SignalKind::terminate()).map_err(failure)?;
    let mut int = signal(SignalKind::interrupt()).map_err(failure)?;
    let mut hup = signal(SignalKind::hangup()).map_err(failure)?;
    let repo = office.runtime.host.settings.repo.clone();
    let pushed = Arc::new(Notify::new());
    let mut watcher = RefWatch::new(&repo.url, Arc::clone(&pushed));
    let mut tidied = tokio::time::Instant::now();
    listen(&office.runtime.host.settings, &pushed).await?;
    let local = repo.url.starts_with('/') || repo.url.starts_with("file://");
    let poll = if local || watcher.is_some() {
        LOCAL_POLL
    } else {
        Duration::from_secs(repo.interval_s.max(1))
    };
    let mut look = ticker(poll);
    let mut watchdog = ticker(watchdog_every());
    let couriers = Couriers::start(&office.runtime.host).map_err(|error| {
        Failure::new("TU0930", error.to_string()).next("trueup run, when the file is right")
    })?;
    let patterns = &office.runtime.host.settings.plan.branches;
    let (branches, mut plans) = Branches::new(patterns)?;
    let mut daemon = Daemon {
        office: *office,
        couriers,
        branches,
        judged: BTreeMap::new(),
        watched: Vec::new(),
        refused: None,
    };
    daemon.recover();
    loop {
        tokio::select! {
            report = daemon.office.runtime.reports.recv() => match report {
                Some(report) => daemon.report(report),
                None => return Ok(Exit::Error),
            },
            Some(planned) = plans.recv() => daemon.planned_branch(&planned),
            Some(asked) = requests.recv() => pinged(daemon.answer(asked)).await,
            () = pushed.notified() => pinged(daemon.look_at_repo()).await,
            _ = look.tick() => {
                daemon.office.runtime.host.state.check().map_err(lost)?;
                // A repository that was put in the place of another has other folders.
                if watcher.as_ref().is_none_or(|watcher| !watcher.is_current()) {
                    watcher = RefWatch::new(&repo.url, Arc::clone(&pushed));
                }
                pinged(daemon.look_at_repo()).await;
                if tidied.elapsed() > TIDY_EVERY && daemon.is_idle() {
                    tidied = tokio::time::Instant::now();
                    pinged(daemon.tidy()).await;
                }
            }
            _ = hup.recv() => pinged(daemon.look_at_repo()).await,
            // Pinged by the loop itself: a loop that hangs is restarted.
            _ = watchdog.tick() => notify(&[sd_notify::NotifyState::Watchdog]),
            () = end.notified() => break,
            _ = term.recv() => break,
            _ = int.recv() => break,
        }
    }
    notify(&[sd_notify::NotifyState::Stopping]);
    daemon.stop().await;
    daemon.couriers.stop().await;
    Ok(Exit::Done)
}

/// Without its state directory a loop holds nothing: another one could begin beside it.
fn lost(error: StateDirError) -> Failure {
    Failure::new("TU0915", error.to_string()).next("trueup run, which makes a new one")
}

fn ticker(every: Duration) -> tokio::time::Interval {
    let mut ticker = interval(every);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker
}

/// The webhook, where it is configured. It wakes the loop; polling goes on beside it.
async fn listen(settings: &Settings, pushed: &Arc<Notify>) -> Result<(), Failure> {
    let Some(hook) = &settings.webhook else {
        return Ok(());
    };
    let failure = |why: String| {
        Failure::new("TU0931", format!("webhook: {why}")).next("trueup run, when it is right")
    };
    let path = &hook.secret_file;
    let bytes = private_file(path).map_err(|why| failure(format!("secretFile {why}")))?;
    let secret = secret_line(bytes.expose_secret())
        .map_err(|why| failure(format!("secretFile {path} {why}")))?;
    if !hook.path.starts_with('/') {
        return Err(failure(format!(
            "path: {:?} does not begin with /",
            hook.path
        )));
    }
    let receiver = Receiver::bind(hook.listen, &hook.path, secret, Arc::clone(pushed))
        .await
        .map_err(|error| failure(format!("listen: {}: {error}", hook.listen)))?;
    tokio::spawn(receiver.serve());
    Ok(())
}

/// Work of the loop that takes long for a good reason (looks at machines that are
/// off): the watchdog is kept quiet meanwhile, for [`PINGED_MAX`] at most.
async fn pinged<T>(work: impl Future<Output = T>) -> T {
    let mut work = Box::pin(work);
    let deadline = tokio::time::Instant::now() + PINGED_MAX;
    loop {
        tokio::select! {
            result = &mut work => return result,
            () = tokio::time::sleep(PING_EVERY), if tokio::time::Instant::now() < deadline => {
                notify(&[sd_notify::NotifyState::Watchdog]);
            }
        }
    }
}

fn watchdog_every() -> Duration {
    sd_notify::watchdog_enabled().map_or(Duration::from_secs(60), |period| period / 3)
}

fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}

struct Daemon {
    office: Office,
    couriers: Couriers,
    branches: Branches,
    /// What was said of the tip, by unit.
    judged: BTreeMap<UnitId, Judgement>,
    /// Tasks that pass on wake-ups of clusters.
    watched: Vec<tokio::task::JoinHandle<()>>,
    /// The newest tip that could not be taken.
    refused: Option<CommitId>,
}

impl Daemon {
    /// After a start: steps whose end was never written are unknown. What they did is
    /// seen when the machines are looked at; jobs that still run are waited for.
    fn recover(&self) {
        let store = &self.office.runtime.host.store;
        let at = super::runtime::seconds(now_s());
        match store.abandon_unfinished("trueup ended while it was under way", at) {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "steps were under way when trueup ended"),
            Err(error) => tracing::warn!(%error, "the journal cannot be read"),
        }
    }

    /// Nothing is under way.
    fn is_idle(&self) -> bool {
        let mut units = self.office.runtime.units.values();
        units.all(|driven| driven.engine.is_idle())
    }

    async fn tidy(&self) {
        if let Err(error) = self.office.runtime.host.mirror.tidy().await {
            tracing::warn!(%error, "the mirror is not packed");
        }
    }

    /// The tracked branch first.
    async fn look_at_repo(&mut self) {
        self.look_at_tip().await;
        self.branches.look(&self.office.runtime).await;
    }

    fn planned_branch(&mut self, planned: &Planned) {
        self.branches.done(&planned.commit);
        let speaker = self.speaker(&planned.commit);
        speaker.say("plan", planned.state, &planned.text);
    }

    async fn look_at_tip(&mut self) {
        match tip::fetch(&self.office.runtime.host, None).await {
            Ok(found) => {
                self.office.runtime.branch_problem = None;
                let known = self.office.runtime.tip() == Some(&found.commit)
                    || self.refused.as_ref() == Some(&found.commit);
                if known && self.office.runtime.held == found.held {
                    return;
                }
                self.office.runtime.held = found.held;
                self.take(found.commit).await;
            }
            Err(failure) => {
                // Never read as "delete everything": what was true stays wanted.
                let next = failure
                    .next
                    .map_or_else(String::new, |next| format!("; next: {next}"));
                let problem = Some(failure.message + &next);
                if self.office.runtime.branch_problem != problem {
                    tracing::warn!(why = problem, "the branch cannot be read");
                }
                self.office.runtime.branch_problem = problem;
            }
        }
        notify(&[sd_notify::NotifyState::Ready]);
    }

    async fn take(&mut self, id: CommitId) {
        self.speaker(&id).arrived();
        let before = self.office.runtime.tip().cloned();
        let loaded = Commit::load(
            &self.office.runtime.host,
            id.clone(),
            self.office.runtime.commit.as_ref(),
        );
        if let Some(before) = before.as_ref().filter(|before| **before != id) {
            self.speaker(before).superseded(&id);
        }
        if let Some(refused) = self.refused.take().filter(|refused| *refused != id) {
            self.speaker(&refused).superseded(&id);
        }
        let commit = match loaded {
            Ok(commit) => commit,
            Err(error) => {
                self.refuse(&id, &error.to_string());
                return;
            }
        };
        if commit.plan.is_none() {
            let first = commit.first_error().unwrap_or_default();
            self.refuse(&id, &first);
            self.office.runtime.broken = Some(commit);
            return;
        }
        self.office.runtime.broken = None;
        let findings = commit.errors();
        let text = match findings {
            0 => "no errors".to_owned(),
            _ => commit.first_error().unwrap_or_default(),
        };
        let state = if findings == 0 {
            VerdictState::Success
        } else {
            VerdictState::Failure
        };
        self.office.runtime.take(commit);
        self.speaker(&id).say("validate", state, &text);
        if let Err(error) = self.office.runtime.host.accept(&id) {
            tracing::warn!(%error, "the tip is not recorded");
        }
        // The same commit again (it was granted): engines decide once, and what they said stays.
        if before.as_ref() != Some(&id) {
            self.judged.clear();
        }
        self.watch_clusters();
        let units = self.office.runtime.unit_ids();
        for (unit, context) in self.office.runtime.establish(&units).await {
            let effects = self.office.runtime.engage(&unit, context);
            let driven = self.office.runtime.units.get(&unit);
            if let Some(told) = driven.and_then(|driven| driven.engine.told()) {
                self.judged.insert(unit.clone(), told.clone());
            }
            self.effects(&unit, &effects);
        }
        // A fleet without units has no engine that would say it.
        self.planned(&id);
        // An earlier run may have ended between the last unit's word and the sum.
        self.speaker(&id).converged(&self.judged, &units);
    }

    /// A commit that cannot be used changes nothing: the one before stays wanted.
    fn refuse(&mut self, id: &CommitId, why: &str) {
        let speaker = self.speaker(id);
        speaker.say("validate", VerdictState::Failure, why);
        speaker.say("plan", VerdictState::Failure, why);
        speaker.say("converged", VerdictState::Failure, why);
        self.refused = Some(id.clone());
    }

    fn speaker<'a>(&'a self, commit: &'a CommitId) -> Speaker<'a> {
        Speaker {
            store: self.office.runtime.host.store.as_ref(),
            fleet: &self.office.runtime.host.settings.fleet,
            commit,
            couriers: &self.couriers,
        }
    }

    fn watch_clusters(&mut self) {
        for task in self.watched.drain(..) {
            task.abort();
        }
        let Some(sound) = self.office.runtime.sound() else {
            return;
        };
        let clusters: Vec<_> = sound
            .world
            .clusters()
            .map(|(name, ports)| (UnitId::Cluster(name.clone()), Arc::clone(&ports.api)))
            .collect();
        for (unit, api) in clusters {
            let reports = self.office.runtime.driver.reports();
            self.watched.push(tokio::spawn(async move {
                loop {
                    api.changed().await;
                    tokio::time::sleep(SETTLE).await;
                    if reports.send(Report::Time(unit.clone())).is_err() {
                        return;
                    }
                }
            }));
        }
    }

    fn report(&mut self, report: Report) {
        if let Some((unit, effects)) = self.office.runtime.report(report) {
            self.effects(&unit, &effects);
        }
    }

    fn effects(&mut self, unit: &UnitId, effects: &[Effect]) {
        let Some(commit) = self.office.runtime.tip().cloned() else {
            return;
        };
        for effect in effects {
            let (Effect::Decide(judgement) | Effect::Tell(judgement)) = effect else {
                continue;
            };
            self.judged.insert(unit.clone(), judgement.clone());
            if matches!(effect, Effect::Decide(_)) && judgement.state == VerdictState::Success {
                self.office.runtime.settle(unit);
            }
            let units = self.office.runtime.unit_ids();
            let speaker = self.speaker(&commit);
            speaker.apply(&self.judged, &units);
            speaker.converged(&self.judged, &units);
        }
        self.planned(&commit);
        let decided = self
            .judged
            .get(unit)
            .is_some_and(|judgement| judgement.state.is_final());
        if decided && self.may_report(unit) {
            // Units that share a context speak together.
            let units = &self.office.runtime.units;
            let rounds: Vec<_> = units
                .iter()
                .filter(|(other, _)| other.context() == unit.context())
                .filter_map(|(_, driven)| driven.engine.round())
                .collect();
            self.speaker(&commit).drift(unit, &rounds);
        }
    }

    /// Whether host and repo want to hear of drift.
    fn may_report(&self, unit: &UnitId) -> bool {
        let runtime = &self.office.runtime;
        let host = runtime.host.settings.ceiling(unit);
        let repo = self.office.repo_powers(unit);
        host.report_drift && repo.is_none_or(|repo| repo.report_drift)
    }

    /// Once every unit was looked at: what the commit would do.
    fn planned(&self, commit: &CommitId) {
        let runtime = &self.office.runtime;
        let context = format!("trueup/{}/plan", runtime.host.settings.fleet);
        let said = runtime.host.store.newest(commit, &context).ok().flatten();
        if said.is_some() {
            return;
        }
        if let Some((steps, held)) = runtime.forecast_sizes() {
            self.speaker(commit)
                .say("plan", VerdictState::Success, &sizes(steps, held));
        }
    }

    async fn answer(&mut self, asked: Asked) {
        let result = self.office.answer(asked.request, &asked.author).await;
        // A client that went away needs no answer.
        let _gone = asked.answer.send(result);
        // A grant of a held commit changes what the tip is.
        if self.office.runtime.held.is_some() {
            Box::pin(self.look_at_tip()).await;
        }
    }

    /// No new step; what is under way is waited for a while.
    async fn stop(&mut self) {
        let ids: Vec<UnitId> = self.office.runtime.units.keys().cloned().collect();
        for unit in &ids {
            if let Some(driven) = self.office.runtime.units.get_mut(unit) {
                driven.engine.on(Event::Stop, now_s());
            }
        }
        let deadline = tokio::time::Instant::now() + SHUTDOWN;
        while self.office.runtime.units.values().any(|driven| {
            matches!(
                driven.engine.phase(),
                trueup_core::engine::Phase::Performing(_)
            )
        }) {
            let reports = &mut self.office.runtime.reports;
            match tokio::time::timeout_at(deadline, reports.recv()).await {
                Ok(Some(report)) => self.report(report),
                Ok(None) | Err(_) => return,
            }
        }
    }
}
