//! Steps on one machine: stage the bytes, start the job, wait for its end.

use std::time::Duration;

use secrecy::SecretSlice;
use trueup_core::desired::DesiredUnit;
use trueup_core::job::{Work, work};
use trueup_core::plan::Context;
use trueup_model::id::NodeName;
use trueup_model::job::{JobExit, JobId, JobSpec, JobState};
use trueup_model::port::{Delivery, NodeError, NodeShell, Staged};
use trueup_model::step::{Content, FileSpec, Outcome, Step};

use super::{Performer, Told, tell};

/// What is told of steps that were not reached since one before them failed.
const NOT_STARTED: &str = "not started: a step before it on this machine did not succeed";
/// Longest wait in one call for a job's end; then it is asked again.
const WAIT_S: u32 = 10;
/// After a job's own time is over systemd has ended it; so much longer is waited for
/// the word of it, then its outcome is unknown.
const GRACE: Duration = Duration::from_secs(30);
/// How long a machine may be out of reach while a job of ours runs on it.
const SILENCE: Duration = Duration::from_secs(60);

/// Perform the steps of one machine in their order.
pub(super) async fn perform(
    performer: &Performer,
    desired: &DesiredUnit,
    context: &Context,
    name: NodeName,
    steps: Vec<Step>,
    told: &Told,
) {
    let mut stopped = false;
    for step in steps {
        if stopped {
            tell(told, &step, Outcome::Failed(NOT_STARTED.to_owned()));
            continue;
        }
        let outcome = one(performer, desired, context, &name, &step).await;
        stopped = outcome != Outcome::Done;
        tell(told, &step, outcome);
    }
}

async fn one(
    performer: &Performer,
    desired: &DesiredUnit,
    context: &Context,
    name: &NodeName,
    step: &Step,
) -> Outcome {
    let (Some(machine), Some(shell)) = (desired.machines.get(name), performer.world.shell(name))
    else {
        return Outcome::Failed("the machine is not declared any more".to_owned());
    };
    let Some(work) = work(step, machine) else {
        return Outcome::Failed("this step is not one of a machine".to_owned());
    };
    let number = match performer.store.next_number() {
        Ok(number) => number,
        Err(error) => return Outcome::Failed(format!("the journal: {error}")),
    };
    let id = JobId::new(&step.id, context.claim.epoch, number);
    let entry = super::super::journal::begin(performer.store.as_ref(), step, context, Some(&id));
    let outcome = run(performer, context, shell.as_ref(), &id, work).await;
    super::super::journal::end(performer.store.as_ref(), entry, &outcome);
    outcome
}

async fn run(
    performer: &Performer,
    context: &Context,
    shell: &dyn NodeShell,
    id: &JobId,
    work: Work,
) -> Outcome {
    for file in &work.stage {
        if let Err(outcome) = stage(performer, shell, id, file).await {
            return outcome;
        }
    }
    let timeout_s = work.timeout_s;
    let job = JobSpec {
        id: id.clone(),
        claim: context.claim.clone(),
        take_over: context.take_over,
        operations: work.operations,
        timeout_s,
    };
    match shell.start(&job).await {
        Ok(()) => {}
        Err(error) => match delivery(&error) {
            Delivery::NotSent => return failed(&error),
            // It may have started: ask for it by its id.
            Delivery::Unknown => {}
        },
    }
    wait(shell, id, Duration::from_secs(u64::from(timeout_s)) + GRACE).await
}

async fn stage(
    performer: &Performer,
    shell: &dyn NodeShell,
    id: &JobId,
    file: &FileSpec,
) -> Result<(), Outcome> {
    let content = content(performer, file).await.map_err(Outcome::Failed)?;
    shell
        .stage(Staged {
            job: id,
            path: &file.path,
            sha256: &file.sha256,
            content: &content,
        })
        .await
        .map_err(|error| failed(&error))
}

async fn content(performer: &Performer, file: &FileSpec) -> Result<SecretSlice<u8>, String> {
    match &file.content {
        Content::Text(text) => Ok(text.clone().into_bytes().into()),
        Content::Secret(secret) => performer.vault.bytes(secret),
        Content::K3sBinary(version) => performer.world.binary(version).await,
    }
}

/// Wait for a job's end. A machine that is out of reach for a while is waited for:
/// the job goes on without us.
async fn wait(shell: &dyn NodeShell, id: &JobId, limit: Duration) -> Outcome {
    let deadline = tokio::time::Instant::now() + limit;
    let mut silent_since: Option<tokio::time::Instant> = None;
    loop {
        match shell.job(id, WAIT_S).await {
            Ok(JobState::Running) => silent_since = None,
            Ok(JobState::Ended { code, output }) => return ended(code, &output),
            Ok(JobState::Absent) => {
                return Outcome::Failed("the job was not started".to_owned());
            }
            Ok(JobState::Unknown) => {
                return Outcome::Unknown("the job ended without an exit code".to_owned());
            }
            Err(error) => {
                let since = *silent_since.get_or_insert_with(tokio::time::Instant::now);
                if since.elapsed() > SILENCE {
                    return Outcome::Unknown(error.to_string());
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        if tokio::time::Instant::now() > deadline {
            return Outcome::Unknown("the job did not end in its time".to_owned());
        }
    }
}

fn ended(code: i32, output: &str) -> Outcome {
    let said = output.trim();
    match code {
        0 => Outcome::Done,
        JobExit::STALE_EPOCH => Outcome::Fenced(format!("the machine knows a newer epoch: {said}")),
        JobExit::OTHER_HOLDER => Outcome::Fenced(format!("another host holds the machine: {said}")),
        JobExit::NO_SPACE => Outcome::Failed(format!("no space left on the machine: {said}")),
        code => Outcome::Failed(format!("exit code {code}: {said}")),
    }
}

fn delivery(error: &NodeError) -> Delivery {
    match error {
        NodeError::Timeout { delivery, .. } | NodeError::Broken { delivery, .. } => *delivery,
        _ => Delivery::NotSent,
    }
}

fn failed(error: &NodeError) -> Outcome {
    match error {
        NodeError::Failed { code, output, .. } => ended(*code, output),
        other => Outcome::Failed(other.to_string()),
    }
}
