//! Machines of the bed as trueup's shells see them.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{SecretSlice, SecretString};
use trueup_bed::{Bed, BedSpec};
use trueup_drivers::ssh::{AllowList, Hop, Identity, SshSettings, SshShell};
use trueup_model::facts::machine::{ProbeReply, ProbeRequest};
use trueup_model::id::{Claim, Digest};
use trueup_model::job::{JobId, JobSpec, JobState, Operation};
use trueup_model::port::{NodeShell, Staged};

pub(crate) fn bed(count: usize) -> Bed {
    Bed::start(BedSpec::with_machines(count)).unwrap()
}

pub(crate) fn identity(bed: &Bed) -> Identity {
    let pem = std::fs::read_to_string(bed.ssh_key_path()).unwrap();
    Identity::parse(&SecretString::from(pem)).unwrap()
}

pub(crate) fn hop(bed: &Bed, machine: &str, user: &str) -> Hop {
    let machine = bed.machine(machine);
    Hop::new(
        &machine.ip().to_string(),
        machine.ssh_port(),
        user,
        &[machine.host_key_openssh().to_owned()],
        identity(bed),
    )
    .unwrap()
}

pub(crate) fn shell(bed: &Bed, machine: &str, user: &str) -> SshShell {
    SshShell::new(SshSettings::direct(
        hop(bed, machine, user),
        Arc::new(AllowList::everywhere()),
    ))
}

/// A job of the test's own: `name` and attempt make its id.
pub(crate) fn job(name: &str, attempt: u64, operations: Vec<Operation>) -> JobSpec {
    JobSpec {
        id: JobId::new(&Digest::of(name.as_bytes()), 1, attempt),
        claim: Claim {
            holder: "tester".to_owned(),
            epoch: 1,
        },
        take_over: false,
        operations,
        timeout_s: 60,
    }
}

pub(crate) fn install(path: &str, content: &[u8]) -> Operation {
    Operation::InstallFile {
        path: path.to_owned(),
        sha256: Digest::of(content),
        mode: "0640".to_owned(),
        owner: "root".to_owned(),
        group: "root".to_owned(),
    }
}

pub(crate) async fn stage(shell: &dyn NodeShell, job: &JobSpec, path: &str, content: &[u8]) {
    try_stage(shell, job, path, content).await.unwrap();
}

pub(crate) async fn try_stage(
    shell: &dyn NodeShell,
    job: &JobSpec,
    path: &str,
    content: &[u8],
) -> Result<(), trueup_model::port::NodeError> {
    shell
        .stage(Staged {
            job: &job.id,
            path,
            sha256: &Digest::of(content),
            content: &SecretSlice::from(content.to_vec()),
        })
        .await
}

/// Starts a job and waits for its end.
pub(crate) async fn perform(shell: &dyn NodeShell, job: &JobSpec) -> (i32, String) {
    shell.start(job).await.unwrap();
    match shell.job(&job.id, 60).await.unwrap() {
        JobState::Ended { code, output } => (code, output),
        other => panic!("job {} is {other:?}", job.id),
    }
}

/// Stages and installs one file in a job of its own.
pub(crate) async fn put(shell: &dyn NodeShell, path: &str, content: &[u8]) {
    let job = job(path, 1, vec![install(path, content)]);
    stage(shell, &job, path, content).await;
    assert_eq!(perform(shell, &job).await, (0, String::new()));
}

pub(crate) async fn look(shell: &dyn NodeShell, paths: &[&str]) -> ProbeReply {
    let request = ProbeRequest {
        files: paths
            .iter()
            .map(|path| ((*path).to_owned(), true))
            .collect(),
        ..ProbeRequest::default()
    };
    shell.probe(&request).await.unwrap()
}

/// A value of a probe, as text.
pub(crate) fn value(reply: &ProbeReply, key: &str) -> Option<String> {
    let line = reply.lines.iter().find(|(have, _)| have == key)?;
    Some(String::from_utf8_lossy(&line.1).into_owned())
}

/// What is told of one file.
pub(crate) async fn told(shell: &dyn NodeShell, path: &str) -> String {
    value(&look(shell, &[path]).await, &format!("file {path}")).unwrap()
}

/// Paths in the ownership record.
pub(crate) fn owned(reply: &ProbeReply) -> Vec<String> {
    let record = value(reply, "owner").unwrap();
    record
        .lines()
        .filter_map(|line| line.strip_prefix("file\t")?.split('\t').next())
        .map(|path| String::from_utf8(STANDARD.decode(path).unwrap()).unwrap())
        .collect()
}
