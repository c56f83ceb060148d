//! One machine by its address.

use std::sync::Arc;

use async_trait::async_trait;
use secrecy::{ExposeSecret as _, SecretSlice};
use trueup_model::facts::machine::{ProbeReply, ProbeRequest};
use trueup_model::id::Digest;
use trueup_model::job::{JobExit, JobId, JobSpec, JobState};
use trueup_model::port::{ByteStream, NodeError, NodeShell, Staged};

use super::{Keeper, visit};
use crate::fleet::SimFleet;
use crate::machine::{Machine, Stored};

/// A job that runs is looked at again after so many milliseconds.
const LOOK_MS: u64 = 20;

/// One simulated machine.
#[derive(Debug)]
pub struct SimShell {
    keeper: Arc<dyn Keeper>,
    address: String,
}

impl SimShell {
    /// The machine of an address, whether there is one or not.
    pub fn new(keeper: Arc<dyn Keeper>, address: &str) -> Self {
        Self {
            keeper,
            address: address.to_owned(),
        }
    }

    fn on<T>(
        &self,
        act: impl FnOnce(&mut SimFleet, i64) -> Result<T, NodeError>,
    ) -> Result<T, NodeError> {
        let away = |why: &str| NodeError::Unreachable {
            address: format!("{}:22", self.address),
            why: why.to_owned(),
        };
        let result = visit(&self.keeper, |fleet, now_ms| {
            match fleet.machines.get(&self.address) {
                None => Err(away("no route to host (simulated)")),
                Some(machine) if !machine.power => Err(away("connection timed out (simulated)")),
                Some(_) => act(fleet, now_ms),
            }
        });
        result.unwrap_or_else(|why| Err(away(&why)))
    }

    fn machine<T>(
        &self,
        act: impl FnOnce(&mut Machine, i64) -> Result<T, NodeError>,
    ) -> Result<T, NodeError> {
        self.on(
            |fleet, now_ms| match fleet.machines.get_mut(&self.address) {
                Some(machine) => act(machine, now_ms),
                None => Err(failed("visit", 80, "the machine is gone")),
            },
        )
    }

    fn state(&self, id: &JobId) -> Result<JobState, NodeError> {
        self.machine(|machine, _| {
            Ok(match machine.jobs.get(id.as_str()) {
                None => JobState::Absent,
                Some(job) => match job.code {
                    Some(code) => JobState::Ended {
                        code,
                        output: job.out.clone(),
                    },
                    None if job.boot == machine.boot => JobState::Running,
                    None => JobState::Unknown,
                },
            })
        })
    }
}

fn failed(what: &str, code: i32, output: impl Into<String>) -> NodeError {
    NodeError::Failed {
        what: what.to_owned(),
        code,
        output: output.into(),
    }
}

#[async_trait]
impl NodeShell for SimShell {
    async fn probe(&self, request: &ProbeRequest) -> Result<ProbeReply, NodeError> {
        self.machine(|machine, now_ms| Ok(machine.probe(request, now_ms)))
    }

    async fn stage(&self, file: Staged<'_>) -> Result<(), NodeError> {
        let what = format!("stage of {}", file.path);
        let bytes = file.content.expose_secret();
        self.machine(|machine, _| {
            let (folder, _) = file.path.rsplit_once('/').unwrap_or_default();
            if machine.files.contains_key(folder) {
                return Err(failed(&what, 76, format!("{folder} is not a directory")));
            }
            let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            if machine.free_bytes <= size {
                let why = format!("no space left on device: {size} bytes wanted");
                return Err(failed(&what, JobExit::NO_SPACE, why));
            }
            if Digest::of(bytes) != *file.sha256 {
                let why = "the bytes did not arrive whole";
                return Err(failed(&what, JobExit::STAGE_LOST, why));
            }
            let staged = machine
                .staged
                .entry(file.job.as_str().to_owned())
                .or_default();
            staged.insert(file.path.to_owned(), Stored::of(bytes));
            Ok(())
        })
    }

    async fn start(&self, job: &JobSpec) -> Result<(), NodeError> {
        let what = format!("start of job {}", job.id);
        self.on(|fleet, now_ms| {
            fleet
                .start_job(&self.address, job, now_ms)
                .map_err(|(code, why)| failed(&what, code, why))
        })
    }

    async fn job(&self, id: &JobId, wait_s: u32) -> Result<JobState, NodeError> {
        let looks = u64::from(wait_s) * 1000 / LOOK_MS;
        for _ in 0..looks {
            match self.state(id)? {
                JobState::Running => self.keeper.pause(LOOK_MS).await,
                ended => return Ok(ended),
            }
        }
        self.state(id)
    }

    async fn read_secret(&self, path: &str) -> Result<Option<SecretSlice<u8>>, NodeError> {
        self.machine(|machine, _| {
            let file = machine.files.get(path);
            Ok(file.map(|file| file.content.bytes().to_vec().into()))
        })
    }

    async fn dial(&self, port: u16) -> Result<Box<dyn ByteStream>, NodeError> {
        Err(NodeError::Unreachable {
            address: format!("127.0.0.1:{port} of {}", self.address),
            why: "simulated machines have no ports".to_owned(),
        })
    }
}
