//! Jobs: the machine's own systemd performs their operations one after the other, at
//! their times, whoever is there to see it. The rules are those of the node script.

use serde::{Deserialize, Serialize};
use trueup_model::id::{Claim, Digest};
use trueup_model::job::{JobExit, JobSpec, Operation, SystemctlVerb};

use super::probe::BINARY;
use super::unit::Started;
use super::{Machine, SERVICES, SimFile};
use crate::fleet::SimFleet;

/// A service that is not ready is looked at again after so many milliseconds.
const AGAIN_MS: i64 = 250;
/// Ended jobs that are remembered.
const KEPT_MAX: usize = 20;
/// Accounts of every machine.
const ACCOUNTS: &[&str] = &[
    "root", "daemon", "bin", "sys", "nobody", "nogroup", "adm", "www-data",
];
/// Exit codes of the node script that the model does not name: another type of file,
/// not owned, an operation that failed, out of time.
const OTHER_TYPE: i32 = 76;
const NOT_OWNED: i32 = 77;
const FAILED: i32 = 80;
const OUT_OF_TIME: i32 = 124;

/// A job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Job {
    /// Jobs of a machine run in this order.
    pub(crate) serial: u64,
    pub(crate) intent: Digest,
    claim: Claim,
    take_over: bool,
    operations: Vec<Operation>,
    /// Operations that are done; the claim comes before the first.
    done: usize,
    claimed: bool,
    /// The operation in work has begun its effect and waits for its end.
    waiting: bool,
    /// When the operation in work ends.
    pub(crate) next_ms: i64,
    deadline_ms: i64,
    pub(crate) boot: String,
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
}

/// How an operation ended.
enum End {
    Done,
    Again(String),
    Failed(i32, String),
}

fn failed(why: impl Into<String>) -> End {
    End::Failed(FAILED, why.into())
}

/// Milliseconds that an operation takes at the pace of 100.
fn takes_ms(operation: &Operation) -> i64 {
    match operation {
        Operation::InstallFile { path, .. } if path == BINARY => 250,
        Operation::InstallFile { .. } | Operation::RemoveFile { .. } => 20,
        Operation::Systemctl {
            verb: SystemctlVerb::Start | SystemctlVerb::Restart,
            unit,
        } if SERVICES.contains(&unit.as_str()) => 700,
        Operation::Systemctl { .. } => 30,
        Operation::AdoptFile { .. }
        | Operation::Sysctl { .. }
        | Operation::DaemonReload
        | Operation::RecordRun { .. } => 10,
    }
}

impl SimFleet {
    /// Take a job; one of the same name is never taken twice. An error is the exit code
    /// and the words of the script.
    pub(crate) fn start_job(
        &mut self,
        address: &str,
        spec: &JobSpec,
        now_ms: i64,
    ) -> Result<(), (i32, String)> {
        let id = spec.id.as_str().to_owned();
        let first = spec.operations.first().map_or(10, takes_ms);
        let next_ms = now_ms + self.takes(first);
        let Some(machine) = self.machines.get_mut(address) else {
            return Ok(());
        };
        if let Some(known) = machine.jobs.get(&id) {
            return if known.intent == spec.intent() {
                Ok(())
            } else {
                Err((79, format!("job {id} exists with another intent")))
            };
        }
        let serial = machine
            .jobs
            .values()
            .map(|job| job.serial)
            .max()
            .unwrap_or(0)
            + 1;
        let job = Job {
            serial,
            intent: spec.intent(),
            claim: spec.claim.clone(),
            take_over: spec.take_over,
            operations: spec.operations.clone(),
            done: 0,
            claimed: false,
            waiting: false,
            next_ms,
            deadline_ms: now_ms + i64::from(spec.timeout_s) * 1000,
            boot: machine.boot.clone(),
            code: None,
            out: String::new(),
        };
        machine.jobs.insert(id, job);
        machine.forget_jobs();
        Ok(())
    }

    /// Let the job in work of a machine do what is due at `at_ms`.
    pub(crate) fn step_job(&mut self, address: &str, at_ms: i64, now_ms: i64) {
        let Some(machine) = self.machines.get_mut(address) else {
            return;
        };
        let Some((id, mut job)) = machine
            .current_job()
            .map(|(id, job)| (id.clone(), job.clone()))
        else {
            return;
        };
        if at_ms > job.deadline_ms {
            job.code = Some(OUT_OF_TIME);
            job.out.push_str("stopped: its time was over\n");
        } else if !job.claimed {
            job.claimed = true;
            if let Err((code, why)) = machine.take_claim(&job.claim, job.take_over) {
                job.code = Some(code);
                job.out.push_str(&why);
            }
        }
        if job.code.is_none() {
            self.step_operation(address, &id, &mut job, at_ms, now_ms);
        }
        let Some(machine) = self.machines.get_mut(address) else {
            return;
        };
        if job.code.is_some() {
            machine.staged.remove(&id);
        }
        machine.jobs.insert(id, job);
    }

    fn step_operation(&mut self, address: &str, id: &str, job: &mut Job, at_ms: i64, now_ms: i64) {
        let Some(operation) = job.operations.get(job.done).cloned() else {
            job.code = Some(0);
            return;
        };
        match self.perform(address, id, &operation, job.waiting, at_ms) {
            End::Done => {
                job.done += 1;
                job.waiting = false;
                match job.operations.get(job.done) {
                    Some(next) => job.next_ms = at_ms + self.takes(takes_ms(next)),
                    None => job.code = Some(0),
                }
            }
            // Tries that nobody saw are not made up for.
            End::Again(why) => {
                job.waiting = true;
                job.next_ms = at_ms.max(now_ms) + AGAIN_MS;
                job.out = format!("{why}\n");
            }
            End::Failed(code, why) => {
                job.code = Some(code);
                job.out.push_str(&format!("{why}\n"));
            }
        }
    }

    fn perform(
        &mut self,
        address: &str,
        id: &str,
        operation: &Operation,
        waiting: bool,
        now_ms: i64,
    ) -> End {
        if let Operation::Systemctl {
            verb: verb @ (SystemctlVerb::Start | SystemctlVerb::Restart),
            unit,
        } = operation
        {
            return match self.start_unit(address, unit, *verb, waiting, now_ms) {
                Started::Ready => End::Done,
                Started::Waits(why) => End::Again(why),
                Started::Failed(why) => failed(why),
            };
        }
        let Some(machine) = self.machines.get_mut(address) else {
            return failed("the machine is gone");
        };
        match operation {
            Operation::InstallFile {
                path,
                sha256,
                mode,
                owner,
                group,
            } => machine.install(id, path, sha256, (mode, owner, group), now_ms),
            Operation::AdoptFile { path, sha256 } => machine.adopt(path, sha256),
            Operation::RemoveFile { path } => machine.remove(path),
            Operation::Sysctl { key, value } => match machine.sysctls.get_mut(key) {
                Some(live) => {
                    value.clone_into(live);
                    End::Done
                }
                None => failed(format!("this kernel has no setting {key}")),
            },
            Operation::DaemonReload => {
                machine.reload();
                End::Done
            }
            Operation::Systemctl { verb, unit } => match machine.control(*verb, unit, now_ms) {
                Ok(()) => End::Done,
                Err(why) => failed(why),
            },
            Operation::RecordRun { unit, inputs } => {
                let invocation = machine.unit(unit).invocation;
                if invocation.is_empty() {
                    return failed(format!("{unit} does not run"));
                }
                let run = (invocation, inputs.clone());
                machine.owner.runs.insert(unit.clone(), run);
                End::Done
            }
        }
    }
}

impl Machine {
    /// The holder's own epoch may grow; another holder is turned away unless asked for.
    fn take_claim(&mut self, claim: &Claim, take_over: bool) -> Result<(), (i32, String)> {
        if let Some(recorded) = &self.owner.claim {
            let ours = recorded.holder == claim.holder;
            if !ours && !take_over {
                let why = format!("held by {} (epoch {})", recorded.holder, recorded.epoch);
                return Err((JobExit::OTHER_HOLDER, why));
            }
            if claim.epoch < recorded.epoch || !ours && claim.epoch == recorded.epoch {
                let why = format!(
                    "the recorded epoch is {}, ours is {}",
                    recorded.epoch, claim.epoch
                );
                return Err((JobExit::STALE_EPOCH, why));
            }
        }
        self.owner.claim = Some(claim.clone());
        Ok(())
    }

    fn install(
        &mut self,
        job: &str,
        path: &str,
        sha256: &Digest,
        (mode, owner, group): (&str, &str, &str),
        now_ms: i64,
    ) -> End {
        if self.is_folder(path) {
            return End::Failed(OTHER_TYPE, format!("{path} is not a regular file"));
        }
        if let Some(who) = [owner, group]
            .into_iter()
            .find(|who| !ACCOUNTS.contains(who))
        {
            return failed(format!("chown: invalid user: '{who}'"));
        }
        let staged = self
            .staged
            .get_mut(job)
            .and_then(|files| files.remove(path));
        let (content, mtime_s) = match (staged, self.files.get(path)) {
            (Some(content), _) => (content, now_ms / 1000),
            (None, Some(live)) => (live.content.clone(), live.mtime_s),
            (None, None) => {
                return End::Failed(JobExit::STAGE_LOST, format!("nothing is staged for {path}"));
            }
        };
        if content.digest() != *sha256 {
            let why = format!("the staged {path} has another digest");
            return End::Failed(JobExit::STAGE_LOST, why);
        }
        self.owner.files.insert(path.to_owned(), sha256.clone());
        let file = SimFile {
            content,
            mode: format!("{mode:0>4}"),
            owner: owner.to_owned(),
            group: group.to_owned(),
            mtime_s,
        };
        self.files.insert(path.to_owned(), file);
        End::Done
    }

    fn adopt(&mut self, path: &str, sha256: &Digest) -> End {
        match self.files.get(path) {
            Some(file) if file.content.digest() == *sha256 => {
                self.owner.files.insert(path.to_owned(), sha256.clone());
                End::Done
            }
            Some(_) | None => End::Failed(
                JobExit::CONTENT_DIFFERS,
                format!("{path} has other content"),
            ),
        }
    }

    fn remove(&mut self, path: &str) -> End {
        if self.owner.files.remove(path).is_some() {
            self.files.remove(path);
            return End::Done;
        }
        match self.files.get(path) {
            Some(_) => End::Failed(NOT_OWNED, format!("{path} is not trueup's")),
            None => End::Done,
        }
    }

    fn forget_jobs(&mut self) {
        let ended = self.jobs.values().filter(|job| job.code.is_some());
        let mut serials: Vec<u64> = ended.map(|job| job.serial).collect();
        serials.sort_unstable();
        let surplus = serials.len().saturating_sub(KEPT_MAX);
        let gone: Vec<u64> = serials.into_iter().take(surplus).collect();
        self.jobs.retain(|_, job| !gone.contains(&job.serial));
    }
}
