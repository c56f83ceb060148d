//! The office: what commands ask of, whether they stand alone or talk to a running
//! loop. Requests and answers are the same values in both cases.

use camino::Utf8Path;
use serde::{Deserialize, Serialize};
use trueup_core::engine::Phase;
use trueup_core::gate::stale;
use trueup_core::plan::UnitPlan;
use trueup_drivers::store::StateDirError;
use trueup_model::id::{CommitId, UnitId};
use trueup_model::kinds::switches::Powers;
use trueup_model::port::store::{Grant, Pause};
use trueup_model::step::{Action, Step, Target};

use super::clock::now_s;
use super::commit::Commit;
use super::host::{Host, HostError};
use super::result::ApplyResult;
use super::runtime::{Runtime, annotated_key, seconds, step_key, wait_key};
use super::socket::{self, Client};
use super::tip;
use super::view::{
    PLAN_VERSION, PlanView, SavedPlan, StatusView, UnitStatus, held_line, state_of, step_line,
    wait_line,
};
use crate::cli::Failure;
use crate::cli::exit::Exit;

/// What a person asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "do")]
pub enum Request {
    /// The status.
    Status,
    /// A plan.
    Plan {
        /// Another commit than the tip.
        rev: Option<String>,
        /// Only these units.
        units: Vec<String>,
    },
    /// Grant something.
    Approve {
        /// Step ids, or their beginnings.
        steps: Vec<String>,
        /// All waiting deletions of an Application.
        deletions: Option<String>,
        /// A held commit.
        commit: Option<String>,
        /// Why.
        reason: String,
        /// Seconds until it expires.
        expires_s: u64,
    },
    /// Take a unit over.
    Claim {
        /// The unit.
        unit: String,
        /// Why.
        reason: String,
    },
    /// Leave something alone.
    Pause {
        /// What.
        target: String,
        /// Why.
        reason: String,
        /// Seconds until it ends by itself.
        for_s: Option<u64>,
    },
    /// End a pause.
    Resume {
        /// What was paused.
        target: String,
    },
}

/// What is answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Answer {
    /// For people.
    pub text: String,
    /// For programs.
    pub json: serde_json::Value,
}

/// Who answers.
#[derive(Debug)]
pub enum Desk {
    /// A running loop.
    Loop(Client),
    /// This process itself.
    Own(Box<Office>),
}

/// Ask the running loop, if there is one; else hold the state directory ourselves.
pub async fn open(config: &Utf8Path) -> Result<Desk, Failure> {
    let settings = super::settings::Settings::read(config).map_err(|error| {
        let next = if config.exists() {
            "trueup doctor"
        } else {
            "trueup init"
        };
        Failure::new("TU0901", error.to_string()).next(next)
    })?;
    if let Some(client) = Client::connect(&socket::path(&settings)).await {
        return Ok(Desk::Loop(client));
    }
    let host = Host::open(config)
        .await
        .map_err(|error| failure_of(&error))?;
    Ok(Desk::Own(Box::new(Office {
        runtime: Runtime::new(host),
    })))
}

pub(crate) fn failure_of(error: &HostError) -> Failure {
    let failure = Failure::new("TU0902", error.to_string());
    match error {
        HostError::State(error @ StateDirError::Held { .. }) => {
            Failure::new("TU0907", error.to_string())
                .next("trueup status")
                .exit(Exit::Held)
        }
        HostError::Age(_) => failure.next("chmod 600 the identity file"),
        _ => failure,
    }
}

/// A runtime that answers requests.
#[derive(Debug)]
pub struct Office {
    /// The fleet.
    pub runtime: Runtime,
}

impl Office {
    /// Fetch the tip (or take `rev`) and load it.
    pub async fn load(&mut self, rev: Option<&str>) -> Result<(), Failure> {
        let found = tip::fetch(&self.runtime.host, rev).await?;
        self.runtime.held = found.held;
        let commit = Commit::load(
            &self.runtime.host,
            found.commit,
            self.runtime.commit.as_ref(),
        )
        .map_err(|error| Failure::new("TU0903", error.to_string()))?;
        if commit.plan.is_none() {
            let text = crate::cli::findings_text(&commit.loaded);
            return Err(Failure::new(
                "TU0904",
                format!(
                    "commit {} has {} errors\n{text}",
                    commit.id.short(),
                    commit.errors()
                ),
            )
            .next("trueup validate")
            .exit(Exit::Findings));
        }
        self.runtime.take(commit);
        Ok(())
    }

    /// A plan on fresh looks.
    pub async fn plan(&mut self, rev: Option<&str>, units: &[String]) -> Result<PlanView, Failure> {
        self.load(rev).await?;
        self.plan_loaded(units).await
    }

    /// A plan of the commit that is loaded.
    pub async fn plan_loaded(&mut self, units: &[String]) -> Result<PlanView, Failure> {
        let mut wanted = Vec::new();
        for text in units {
            let unit: UnitId = text
                .parse()
                .map_err(|error| Failure::new("TU0906", format!("{error}")).exit(Exit::Usage))?;
            wanted.push(unit);
        }
        let ids: Vec<UnitId> = self
            .runtime
            .unit_ids()
            .into_iter()
            .filter(|unit| wanted.is_empty() || wanted.contains(unit))
            .collect();
        let plans = self.runtime.plans(&ids).await;
        let (Some(commit), fleet) = (
            self.runtime.tip().cloned(),
            self.runtime.host.settings.fleet.clone(),
        ) else {
            return Err(Failure::new("TU0903", "no commit is loaded"));
        };
        Ok(PlanView {
            version: PLAN_VERSION,
            fleet,
            commit,
            units: plans,
        })
    }

    /// Load the commit of a saved plan; it must still be the tip.
    pub async fn open_saved(&mut self, saved: &SavedPlan) -> Result<(), Failure> {
        self.load(None).await?;
        let stale = |why: String| {
            Failure::new("TU0905", why)
                .next("trueup plan --out FILE")
                .exit(Exit::Stale)
        };
        if saved.fleet != self.runtime.host.settings.fleet {
            return Err(stale(format!("the plan is of fleet {}", saved.fleet)));
        }
        match self.runtime.tip() {
            Some(tip) if *tip == saved.commit => Ok(()),
            Some(tip) => Err(stale(format!(
                "the plan is of commit {}, and the branch is at {}",
                saved.commit.short(),
                tip.short()
            ))),
            None => Err(stale("no commit is loaded".to_owned())),
        }
    }

    /// Carry out what is allowed.
    pub async fn apply(
        &mut self,
        allowed: std::collections::BTreeSet<trueup_model::id::Digest>,
        wait_s: i64,
        progress: &dyn Fn(&str),
    ) -> Result<ApplyResult, Failure> {
        self.runtime.allowed = Some(allowed);
        Ok(Box::pin(super::once::apply(&mut self.runtime, wait_s, progress)).await)
    }

    /// The status, on what is known; without a loop, on fresh looks.
    pub async fn status(&mut self) -> Result<StatusView, Failure> {
        self.load(None).await?;
        let ids = self.runtime.unit_ids();
        self.runtime.observe(&ids).await;
        Ok(self.status_view(false))
    }

    /// The status of what is known.
    pub fn status_view(&self, running: bool) -> StatusView {
        let runtime = &self.runtime;
        let units = runtime
            .unit_ids()
            .iter()
            .map(|unit| self.unit_status(unit))
            .collect();
        StatusView {
            fleet: runtime.host.settings.fleet.clone(),
            holder: runtime.host.holder.clone(),
            as_of_s: now_s(),
            running,
            commit: runtime.tip().map(ToString::to_string),
            held: held_branch(runtime),
            findings: runtime.findings_lines(),
            deliveries: runtime.host.store.owed().unwrap_or_default(),
            units,
        }
    }

    fn unit_status(&self, unit: &UnitId) -> UnitStatus {
        let runtime = &self.runtime;
        let context = runtime.context(unit, None);
        let repo = self.repo_powers(unit);
        let mut status = UnitStatus {
            unit: unit.to_string(),
            state: "unknown".to_owned(),
            description: String::new(),
            looked_s: runtime.seen.get(unit).map(|(at, _)| *at),
            host: Some(context.ceiling.into()),
            repo: repo.map(Into::into),
            paused: context.paused,
            steps: Vec::new(),
            held: Vec::new(),
            waits: Vec::new(),
        };
        let driven = runtime.units.get(unit);
        let round = match driven {
            Some(driven) => driven.engine.round(),
            None => runtime.rounds.get(unit),
        };
        let phase = driven.map_or(&Phase::Idle, |driven| driven.engine.phase());
        let told = driven.and_then(|driven| driven.engine.told());
        (status.state, status.description) = state_of(round, phase, told);
        if let Some(round) = round {
            let aged = |key: String, line: String| match runtime.since(unit, &key) {
                Some(at) => format!("{line} (for {} s)", now_s() - at),
                None => line,
            };
            let steps = round.ready.iter();
            status.steps = steps
                .map(|step| aged(step_key(step), step_line(step)))
                .collect();
            let held = round.held.iter();
            status.held = held
                .map(|held| aged(step_key(&held.step), held_line(held)))
                .collect();
            let waits = round.waits.iter();
            status.waits = waits
                .map(|wait| aged(wait_key(wait), wait_line(wait)))
                .collect();
        }
        status
    }

    /// What the repo grants for a unit.
    pub(crate) fn repo_powers(&self, unit: &UnitId) -> Option<Powers> {
        let desired = self.runtime.desired(unit)?;
        let cluster = desired.cluster.as_ref().map(|cluster| cluster.powers);
        let mut machines = desired.machines.values();
        cluster.or_else(|| machines.next().map(|machine| machine.powers))
    }

    /// Answer a request of `author`.
    pub async fn answer(&mut self, request: Request, author: &str) -> Result<Answer, Failure> {
        let text = match request {
            Request::Status => {
                let view = self.status_view(true);
                let json = serde_json::to_value(&view).unwrap_or_default();
                return Ok(Answer {
                    text: crate::cli::status_text(&view),
                    json,
                });
            }
            Request::Plan { rev, units } => {
                let view = match rev {
                    Some(_) => {
                        return Err(Failure::new(
                            "TU0906",
                            "the loop plans the tip only; stop it to plan another commit",
                        )
                        .exit(Exit::Usage));
                    }
                    None if self.runtime.commit.is_some() => self.plan_loaded(&units).await?,
                    None => self.plan(None, &units).await?,
                };
                let json = serde_json::to_value(&view).unwrap_or_default();
                return Ok(Answer {
                    text: crate::cli::plan_text(&view),
                    json,
                });
            }
            Request::Approve {
                steps,
                deletions,
                commit,
                reason,
                expires_s,
            } => {
                let granted = self
                    .grants(&steps, deletions.as_deref(), commit.as_deref())
                    .await?;
                self.write_grants(&granted, author, &reason, expires_s)?
            }
            Request::Claim { unit, reason } => self.claim(&unit, author, &reason).await?,
            Request::Pause {
                target,
                reason,
                for_s,
            } => self.pause(target, author, reason, for_s)?,
            Request::Resume { target } => {
                let kept = &self.runtime.host.store;
                let was = kept.resume(&target).map_err(store)?
                    | kept.remove(&annotated_key(&target)).map_err(store)?;
                if was {
                    format!("{target} is no longer paused")
                } else {
                    format!("{target} was not paused")
                }
            }
        };
        self.runtime.refresh();
        Ok(Answer {
            json: serde_json::json!({ "text": text }),
            text,
        })
    }

    /// What is granted: `(id, what)`.
    async fn grants(
        &mut self,
        ids: &[String],
        deletions: Option<&str>,
        commit: Option<&str>,
    ) -> Result<Vec<(String, String)>, Failure> {
        let mut granted = Vec::new();
        if let Some(commit) = commit {
            let id: CommitId = commit
                .parse()
                .map_err(|error| Failure::new("TU0906", format!("{error}")).exit(Exit::Usage))?;
            granted.push((format!("commit/{id}"), format!("the commit {id}")));
        }
        if ids.is_empty() && deletions.is_none() {
            return Ok(granted);
        }
        let view = match self.runtime.commit {
            Some(_) => self.plan_loaded(&[]).await?,
            None => self.plan(None, &[]).await?,
        };
        let waiting: Vec<&Step> = view.units.iter().flat_map(waiting).collect();
        if let Some(app) = deletions {
            let before = granted.len();
            for step in &waiting {
                if let (Action::DeleteObject { .. }, Target::Object(of, _)) =
                    (&step.action, &step.target)
                    && of.as_str() == app
                {
                    granted.push((step.id.0.clone(), step_line(step)));
                }
            }
            if granted.len() == before {
                return Err(
                    Failure::new("TU0908", format!("no deletion of {app} waits"))
                        .next("trueup plan"),
                );
            }
        }
        for id in ids {
            let found: Vec<&&Step> = waiting
                .iter()
                .filter(|step| step.id.0.starts_with(id.as_str()))
                .collect();
            match found.as_slice() {
                [step] => granted.push((step.id.0.clone(), step_line(step))),
                [] => {
                    return Err(
                        Failure::new("TU0908", format!("no step {id} waits")).next("trueup plan")
                    );
                }
                _ => {
                    return Err(Failure::new(
                        "TU0908",
                        format!("{id} is the beginning of several steps"),
                    )
                    .next("give more digits"));
                }
            }
        }
        Ok(granted)
    }

    pub(crate) fn write_grants(
        &self,
        granted: &[(String, String)],
        author: &str,
        reason: &str,
        expires_s: u64,
    ) -> Result<String, Failure> {
        let now = seconds(now_s());
        for (id, what) in granted {
            self.runtime
                .host
                .store
                .grant(&Grant {
                    id: id.clone(),
                    what: what.clone(),
                    author: author.to_owned(),
                    reason: reason.to_owned(),
                    at_s: now,
                    expires_s: now.saturating_add(expires_s),
                })
                .map_err(store)?;
        }
        let lines: Vec<&str> = granted.iter().map(|(_, what)| what.as_str()).collect();
        Ok(format!("granted by {author}:\n  {}", lines.join("\n  ")))
    }

    async fn claim(&mut self, unit: &str, author: &str, reason: &str) -> Result<String, Failure> {
        let unit: UnitId = unit
            .parse()
            .map_err(|error| Failure::new("TU0906", format!("{error}")).exit(Exit::Usage))?;
        if self.runtime.commit.is_none() {
            self.load(None).await?;
        }
        let word = format!("{author}: {reason}");
        self.runtime.take_over(&unit, &word).await.map_err(store)?;
        Ok(format!("{unit} is taken over at its next step ({word})"))
    }

    fn pause(
        &self,
        target: String,
        author: &str,
        reason: String,
        for_s: Option<u64>,
    ) -> Result<String, Failure> {
        let known = target
            .strip_prefix("app/")
            .is_some_and(|name| name.parse::<trueup_model::id::AppName>().is_ok());
        if !known && target.parse::<UnitId>().is_err() {
            return Err(Failure::new("TU0906", format!("{target} is no target"))
                .next("write cluster/NAME, machine/NAME or app/NAME")
                .exit(Exit::Usage));
        }
        let now = seconds(now_s());
        let text = format!("{target} is paused: {reason}");
        self.runtime
            .host
            .store
            .pause(&Pause {
                target,
                reason,
                author: author.to_owned(),
                at_s: now,
                until_s: for_s.map(|for_s| now.saturating_add(for_s)),
            })
            .map_err(store)?;
        Ok(text)
    }
}

/// Why the tip is not carried out, with what to do.
fn held_branch(runtime: &Runtime) -> Option<String> {
    let Some(why) = &runtime.held else {
        return runtime.branch_problem.clone();
    };
    let tip = runtime.tip().map(ToString::to_string).unwrap_or_default();
    Some(format!(
        "{why}; next: trueup approve --commit {tip} --reason WHY"
    ))
}

/// Steps of a plan that wait for somebody.
fn waiting(plan: &UnitPlan) -> Vec<&Step> {
    let mut steps: Vec<&Step> = Vec::new();
    for held in plan.left.iter().chain(&plan.frontier.held) {
        let known = steps.iter().any(|step| step.id == held.step.id);
        if held.hold.gate != stale::NAME && !known {
            steps.push(&held.step);
        }
    }
    steps
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "used as a function of map_err"
)]
fn store(error: trueup_model::port::StoreError) -> Failure {
    Failure::new("TU0902", error.to_string())
}
