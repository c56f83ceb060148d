//! Jobs as time passes: the operation in work of a machine is performed when it is due.

use trueup_model::job::{JobSpec, Operation, SystemctlVerb};

use super::SimFleet;
use crate::machine::{BINARY, End, Job, SERVICES, Started, failed};

/// A service that is not ready is looked at again after so many milliseconds.
const AGAIN_MS: i64 = 250;
/// The node script's exit code of a job whose time is over.
const OUT_OF_TIME: i32 = 124;

/// Milliseconds that an operation takes at the pace of 100.
fn takes_ms(operation: &Operation) -> i64 {
    match operation {
        Operation::InstallFile { path, .. } if path == BINARY => 150,
        Operation::InstallFile { .. } | Operation::RemoveFile { .. } => 20,
        Operation::Systemctl {
            verb: SystemctlVerb::Start | SystemctlVerb::Restart,
            unit,
        } if SERVICES.contains(&unit.as_str()) => 500,
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
