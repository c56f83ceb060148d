//! Busy: a job of ours, of this run or of one before it, still runs on the machine.
//! It goes on without us; nothing else is started beside it, and no server is touched
//! while a job runs on another one.

use super::order::on_server;
use super::{Case, Hold};

pub(super) fn judge(case: &Case<'_>) -> Option<Hold> {
    let machine = case.step.target.machine()?;
    let job = |name| case.seen.machine(name)?.running_jobs.first().cloned();
    if let Some(job) = job(machine) {
        return Some(Hold::wait(
            "busy",
            format!("the job {job} still runs on {machine}"),
        ));
    }
    if !on_server(case, case.step) {
        return None;
    }
    let (server, job) = case
        .desired
        .servers()
        .find_map(|server| Some((&server.name, job(&server.name)?)))?;
    Some(Hold::wait(
        "busy",
        format!("the job {job} still runs on {server}"),
    ))
}
