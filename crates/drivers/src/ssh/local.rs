//! LocalShell: the machine that trueup runs on. The same script as over SSH, and
//! jobs of the same systemd, so that both ways cannot differ.

use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretSlice;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::compat::TokioAsyncReadCompatExt as _;
use trueup_model::facts::machine::{ProbeReply, ProbeRequest};
use trueup_model::job::{JobId, JobSpec, JobState};
use trueup_model::port::{ByteStream, Delivery, NodeError, NodeShell, Staged};

use super::process;
use crate::node_script::{self, Call, Exec, Output};

/// Scripts at once, as over SSH.
const PROCESSES_MAX: usize = 4;

/// The loopback answers at once or not at all.
const DIAL_LIMIT: Duration = Duration::from_secs(5);

/// The machine that trueup runs on.
#[derive(Debug)]
pub struct LocalShell {
    sudo: bool,
    processes: Semaphore,
}

impl Default for LocalShell {
    fn default() -> Self {
        Self::new()
    }
}

impl LocalShell {
    /// This machine; as another user than root, sudo without password is needed.
    pub fn new() -> Self {
        Self {
            sudo: !rustix::process::geteuid().is_root(),
            processes: Semaphore::new(PROCESSES_MAX),
        }
    }

    /// Removes folders of jobs that ended, or belong to another boot, and are older
    /// than `days`. Returns how many.
    pub async fn sweep(&self, days: u32) -> Result<u32, NodeError> {
        node_script::sweep(self, days).await
    }
}

#[async_trait]
impl Exec for LocalShell {
    async fn exec(&self, call: Call<'_>) -> Result<Output, NodeError> {
        let _permit = timeout(call.limit, self.processes.acquire())
            .await
            .map_err(|_| call.timed_out(Delivery::NotSent))?
            .map_err(|error| NodeError::Broken {
                address: "this machine".to_owned(),
                why: error.to_string(),
                delivery: Delivery::NotSent,
            })?;
        process::run(self.sudo, &call).await
    }
}

#[async_trait]
impl NodeShell for LocalShell {
    async fn probe(&self, request: &ProbeRequest) -> Result<ProbeReply, NodeError> {
        node_script::probe(self, request).await
    }

    async fn stage(&self, file: Staged<'_>) -> Result<(), NodeError> {
        node_script::stage(self, file).await
    }

    async fn start(&self, job: &JobSpec) -> Result<(), NodeError> {
        node_script::start(self, job).await
    }

    async fn job(&self, id: &JobId, wait_s: u32) -> Result<JobState, NodeError> {
        node_script::job(self, id, wait_s).await
    }

    async fn read_secret(&self, path: &str) -> Result<Option<SecretSlice<u8>>, NodeError> {
        node_script::read_secret(self, path).await
    }

    async fn dial(&self, port: u16) -> Result<Box<dyn ByteStream>, NodeError> {
        let place = format!("127.0.0.1:{port}");
        let unreachable = |why: String| NodeError::Unreachable {
            address: place.clone(),
            why,
        };
        let stream = timeout(DIAL_LIMIT, TcpStream::connect(("127.0.0.1", port)))
            .await
            .map_err(|_| unreachable("no answer in time".to_owned()))?
            .map_err(|error| unreachable(error.to_string()))?;
        stream
            .set_nodelay(true)
            .map_err(|error| unreachable(error.to_string()))?;
        Ok(Box::new(stream.compat()))
    }
}
