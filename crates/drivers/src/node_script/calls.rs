//! The calls that every node shell makes with the script, with their deadlines.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretSlice};
use trueup_model::facts::machine::{ProbeReply, ProbeRequest};
use trueup_model::id::Digest;
use trueup_model::job::{JobId, JobSpec, JobState};
use trueup_model::port::{NodeError, Staged};

use super::exec::{Call, Exec, Output};
use super::probe as questions;
use super::reply::{Reply, clean, failure};
use super::{SCRIPT, intent, words};

/// A probe takes some 0.1 s; hashing a big binary for the first time on a slow
/// disk some seconds.
const PROBE_LIMIT: Duration = Duration::from_secs(60);
/// Starting a job is a few fsyncs and one call of systemd, whose own limit is 25 s.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Reading one small file.
const READ_LIMIT: Duration = Duration::from_secs(30);
/// What comes on top of the wait for a job, and of the bytes of a stage.
const MARGIN: Duration = Duration::from_secs(30);
/// The slowest line that is still worth waiting for, in bytes a second: a k3s
/// binary of 80 MB then takes 10 minutes.
const SLOWEST_BYTES_A_SECOND: u64 = 128 * 1024;
/// Content of many files, in base64.
const PROBE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// One file of 1 MiB in base64, and its frame.
const REPLY_BYTES_MAX: usize = 1536 * 1024;
/// Most of what a job said that is passed on.
const JOB_OUTPUT_BYTES_MAX: usize = 4096;

fn bad_request(what: &str, error: &dyn std::error::Error) -> NodeError {
    NodeError::Failed {
        what: what.to_owned(),
        code: 70,
        output: error.to_string(),
    }
}

fn read_reply(what: &str, verb: &str, path: &str, output: &Output) -> Result<Reply, NodeError> {
    if output.code == 0 {
        Reply::read(what, verb, &output.stdout)
    } else {
        Err(failure(what, path, output))
    }
}

/// Everything that is asked for, in one round trip.
pub(crate) async fn probe(exec: &dyn Exec, asked: &ProbeRequest) -> Result<ProbeReply, NodeError> {
    let request = questions::request(asked).map_err(|error| bad_request("probe", &error))?;
    let output = exec
        .exec(Call {
            what: "probe",
            args: &["probe"],
            stdin: &[request.as_bytes()],
            limit: PROBE_LIMIT,
            stdout_max: PROBE_BYTES_MAX,
        })
        .await?;
    questions::assemble(asked, read_reply("probe", "probe", "/run", &output)?)
}

/// Bytes beside their declared path.
pub(crate) async fn stage(exec: &dyn Exec, file: Staged<'_>) -> Result<(), NodeError> {
    let what = format!("stage of {}", file.path);
    let checked = words::file_path(file.path).and_then(|_| words::digest(&file.sha256.0));
    checked.map_err(|error| bad_request(&what, &error))?;
    let content = file.content.expose_secret();
    let header = format!(
        "{} {} {}\n",
        words::encode(file.path),
        file.sha256,
        content.len()
    );
    let seconds = u64::try_from(content.len()).unwrap_or(u64::MAX) / SLOWEST_BYTES_A_SECOND;
    let output = exec
        .exec(Call {
            what: &what,
            args: &["stage", file.job.as_str()],
            stdin: &[header.as_bytes(), content],
            limit: MARGIN + Duration::from_secs(seconds),
            stdout_max: REPLY_BYTES_MAX,
        })
        .await?;
    let reply = read_reply(&what, "stage", file.path, &output)?;
    if reply.text("staged")? == file.sha256.0 {
        Ok(())
    } else {
        Err(reply.not_understood("another digest was staged"))
    }
}

/// Starts a job, or finds it started.
pub(crate) async fn start(exec: &dyn Exec, job: &JobSpec) -> Result<(), NodeError> {
    let what = format!("start of job {}", job.id);
    let request = intent::request(job).map_err(|error| bad_request(&what, &error))?;
    let output = exec
        .exec(Call {
            what: &what,
            args: &[
                "start",
                job.id.as_str(),
                &job.timeout_s.to_string(),
                &Digest::of(SCRIPT.as_bytes()).0,
            ],
            stdin: &[request.as_bytes()],
            limit: START_LIMIT,
            stdout_max: REPLY_BYTES_MAX,
        })
        .await?;
    let reply = read_reply(&what, "start", "/var/lib/trueup", &output)?;
    reply.text("started").map(|_| ())
}

/// What became of a job; waits up to `wait_s` seconds for its end.
pub(crate) async fn job(exec: &dyn Exec, id: &JobId, wait_s: u32) -> Result<JobState, NodeError> {
    let what = format!("state of job {id}");
    let output = exec
        .exec(Call {
            what: &what,
            args: &["job", id.as_str(), &wait_s.to_string()],
            stdin: &[],
            limit: MARGIN + Duration::from_secs(wait_s.into()),
            stdout_max: REPLY_BYTES_MAX,
        })
        .await?;
    let reply = read_reply(&what, "job", "/var/lib/trueup", &output)?;
    match reply.text("state")? {
        "absent" => Ok(JobState::Absent),
        "running" => Ok(JobState::Running),
        "unknown" => Ok(JobState::Unknown),
        other => {
            let code = other
                .strip_prefix("ended ")
                .and_then(|code| code.parse().ok());
            Ok(JobState::Ended {
                code: code.ok_or_else(|| reply.not_understood("a job's state has no exit code"))?,
                output: clean(reply.get("out").unwrap_or_default(), JOB_OUTPUT_BYTES_MAX),
            })
        }
    }
}

/// A file that may be secret.
pub(crate) async fn read_secret(
    exec: &dyn Exec,
    path: &str,
) -> Result<Option<SecretSlice<u8>>, NodeError> {
    let what = format!("read of {path}");
    words::path(path).map_err(|error| bad_request(&what, &error))?;
    let output = exec
        .exec(Call {
            what: &what,
            args: &["read"],
            stdin: &[words::encode(path).as_bytes(), b"\n"],
            limit: READ_LIMIT,
            stdout_max: REPLY_BYTES_MAX,
        })
        .await?;
    let mut reply = read_reply(&what, "read", path, &output)?;
    if reply.text("file")? == "absent" {
        return Ok(None);
    }
    let content = reply.take("content");
    content
        .map(|content| Some(SecretSlice::from(content)))
        .ok_or_else(|| reply.not_understood("it has no content"))
}

/// Forgets jobs that ended, or belong to another boot, and are older than `days`.
pub(crate) async fn sweep(exec: &dyn Exec, days: u32) -> Result<u32, NodeError> {
    let output = exec
        .exec(Call {
            what: "sweep",
            args: &["sweep", &days.to_string()],
            stdin: &[],
            limit: READ_LIMIT,
            stdout_max: REPLY_BYTES_MAX,
        })
        .await?;
    let reply = read_reply("sweep", "sweep", "/var/lib/trueup", &output)?;
    let swept = reply.text("swept")?.parse();
    swept.map_err(|_| reply.not_understood("it has no count"))
}
