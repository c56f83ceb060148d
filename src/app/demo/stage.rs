//! The stage: the loop at work in this process, and what the script may do to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use trueup_core::plan::Round;
use trueup_model::facts::etcd::EtcdFacts;
use trueup_model::id::{CommitId, Digest, UnitId};
use trueup_model::port::store::{Store, VerdictRecord};
use trueup_model::step::{Action, Outcome, Step};
use trueup_model::verdict::VerdictState;
use trueup_sim::{Fault, Keeper as _};

use super::broken;
use super::folder::Folder;
use crate::app::daemon;
use crate::app::drive::Report;
use crate::app::office::{Desk, Office, open};
use crate::app::runtime::Happening;
use crate::app::simulated::FleetFile;
use crate::app::view::step_line;
use crate::cli::exit::Exit;
use crate::cli::{Failure, plan_text};

/// Whatever is waited for in the demo takes a few seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// The store is looked at so often.
const LOOK: Duration = Duration::from_millis(15);
/// Between two chapters a person reads.
const READING: Duration = Duration::from_millis(700);

/// The loop, before and while it runs.
pub(super) struct Stage {
    office: Option<Box<Office>>,
    running: Option<JoinHandle<Result<Exit, Failure>>>,
    end: Arc<Notify>,
    happenings: UnboundedReceiver<Happening>,
    reports: UnboundedSender<Report>,
    pub(super) store: Arc<dyn Store>,
    pub(super) mirror: Utf8PathBuf,
    repo: String,
    fleet: Arc<FleetFile>,
    fast: bool,
    lines: BTreeMap<Digest, Step>,
    /// What the last look left.
    pub(super) rest: Round,
}

impl Stage {
    /// Open the host; the loop does not run yet.
    pub(super) async fn open(
        folder: &Folder,
        fleet: Arc<FleetFile>,
        fast: bool,
    ) -> Result<Self, Failure> {
        let Desk::Own(mut office) = open(&folder.config()).await? else {
            return Err(broken("a loop runs on it already"));
        };
        let (watcher, happenings) = unbounded_channel();
        office.runtime.watcher = Some(watcher);
        Ok(Self {
            running: None,
            end: Arc::new(Notify::new()),
            happenings,
            reports: office.runtime.driver.reports(),
            store: Arc::clone(&office.runtime.host.store),
            repo: office.runtime.host.settings.repo.url.clone(),
            mirror: office.runtime.host.mirror.dir().to_owned(),
            fleet,
            fast,
            office: Some(office),
            lines: BTreeMap::new(),
            rest: Round::default(),
        })
    }

    /// The plan of the tip, as `trueup plan` prints it.
    pub(super) async fn plan(&mut self) -> Result<String, Failure> {
        match &mut self.office {
            Some(office) => Ok(plan_text(&office.plan(None, &[]).await?)),
            None => Err(broken("the loop runs already")),
        }
    }

    /// Start the loop: `trueup run`.
    pub(super) fn start(&mut self) {
        if let Some(mut office) = self.office.take() {
            // The loop takes the tip by itself, as it would in a process of its own.
            office.runtime.commit = None;
            let work = daemon::serve(office, Arc::clone(&self.end));
            self.running = Some(tokio::spawn(Box::pin(work)));
        }
    }

    /// End the loop; what it has to say is delivered.
    pub(super) async fn stop(&mut self) -> Result<(), Failure> {
        self.end.notify_one();
        match self.running.take() {
            Some(running) => running.await.map_err(broken)?.map(|_| ()),
            None => Ok(()),
        }
    }

    /// Something happens to the fleet.
    pub(super) fn befall(&self, fault: &Fault) -> Result<(), Failure> {
        let mut result = Ok(());
        let visited = self.fleet.visit(&mut |fleet, now_ms| {
            result = fleet.befall(fault, now_ms);
        });
        visited.map_err(broken)?;
        result.map_err(broken)
    }

    /// Let the loop look now, and not at its next minute.
    pub(super) fn nudge(&self, unit: &UnitId) {
        let _ended = self.reports.send(Report::Time(unit.clone()));
    }

    /// Where the loop fetches from.
    pub(super) fn repo_url(&self) -> String {
        self.repo.clone()
    }

    /// Take in what was told before the last word.
    pub(super) async fn settle(&mut self) {
        tokio::time::sleep(LOOK).await;
        while let Ok(happening) = self.happenings.try_recv() {
            self.told(happening, &|_| {});
        }
    }

    /// A person reads.
    pub(super) async fn pause(&self) {
        if !self.fast {
            tokio::time::sleep(READING).await;
        }
    }

    /// Wait for a word on a commit that `is` wanted, and tell meanwhile what is done.
    pub(super) async fn until(
        &mut self,
        commit: &CommitId,
        context: &str,
        tell: &(dyn Fn(&str) + Sync),
        is: impl Fn(&VerdictRecord) -> bool + Send,
    ) -> Result<VerdictRecord, Failure> {
        let context = format!("trueup/lab/{context}");
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            // Looked up before: what happened until then is told in full.
            let newest = self.store.newest(commit, &context).map_err(broken)?;
            while let Ok(happening) = self.happenings.try_recv() {
                self.told(happening, tell);
            }
            if let Some(record) = newest.filter(|record| is(record)) {
                return Ok(record);
            }
            if self.running.as_ref().is_some_and(JoinHandle::is_finished) {
                self.stop().await?;
                return Err(broken("it was ended"));
            }
            if tokio::time::Instant::now() > deadline {
                return Err(broken(format!(
                    "{context} is not decided: {:?}",
                    self.rest.waits
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn told(&mut self, happening: Happening, tell: &(dyn Fn(&str) + Sync)) {
        match happening {
            Happening::Begin(steps, etcd) => {
                let server = steps.iter().any(|step| {
                    matches!(
                        &step.action,
                        Action::RestartK3s { unit, .. } if unit == "k3s.service"
                    )
                });
                if let (true, Some(etcd)) = (server, etcd) {
                    tell(&format!("  {}", margin(&etcd)));
                }
                for step in steps {
                    self.lines.insert(step.id.clone(), step);
                }
            }
            Happening::End(id, outcome) => {
                let line = self.lines.get(&id).map(short);
                let line = line.unwrap_or_else(|| id.short().to_owned());
                tell(&match outcome {
                    Outcome::Done => format!("  done     {line}"),
                    Outcome::Failed(why) => format!("  not done {line}: {why}"),
                    Outcome::Unknown(why) => format!("  unknown  {line}: {why}"),
                    Outcome::Fenced(why) => format!("  refused  {line}: {why}"),
                });
            }
            Happening::Rest(round) => self.rest = round,
        }
    }
}

/// A step without its id.
fn short(step: &Step) -> String {
    let line = step_line(step);
    line.split_once(' ')
        .map_or(line.clone(), |(_, rest)| rest.to_owned())
}

/// What etcd can spare.
fn margin(etcd: &EtcdFacts) -> String {
    format!(
        "etcd {}/{} voters, may lose {}",
        etcd.healthy_voters(),
        etcd.voters(),
        etcd.margin().max(0)
    )
}

/// A verdict that will not change.
pub(super) fn is_final(record: &VerdictRecord) -> bool {
    record.verdict.state.is_final()
}

/// A verdict of this state.
pub(super) fn has(state: VerdictState) -> impl Fn(&VerdictRecord) -> bool + Send {
    move |record| record.verdict.state == state
}
