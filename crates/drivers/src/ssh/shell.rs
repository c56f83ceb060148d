//! SshShell: one machine over one persistent SSH connection, which comes back by
//! itself. Never retried: a host key that is not pinned, a refused login, a
//! command that may have begun.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use russh::ChannelOpenFailure;
use secrecy::SecretSlice;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;
use tokio_util::compat::TokioAsyncReadCompatExt as _;
use trueup_model::facts::machine::{ProbeReply, ProbeRequest};
use trueup_model::job::{JobId, JobSpec, JobState};
use trueup_model::port::{ByteStream, Delivery, NodeError, NodeShell, Staged};

use super::connect::{CHANNEL_LIMIT, Link, connect};
use super::session::{Ended, run};
use super::settings::SshSettings;
use crate::node_script::{self, Call, Exec, Output, SCRIPT, command_line};

/// Session channels at once. sshd's `MaxSessions` is 10, but it frees a slot only
/// after both sides have closed: with 6 lanes some of 200 commands were refused,
/// with 4 none. Streams of [`NodeShell::dial`] are no sessions.
const SESSIONS_MAX: usize = 4;

/// Tries to open a channel that the server refuses for now.
const OPEN_TRIES: u32 = 6;

/// Pause before the next try; grows with each.
const OPEN_PAUSE: Duration = Duration::from_millis(50);

/// One machine over SSH.
#[derive(Debug)]
pub struct SshShell {
    settings: SshSettings,
    address: String,
    sudo: bool,
    link: Mutex<Option<Arc<Link>>>,
    sessions: Semaphore,
}

impl SshShell {
    /// A machine; nothing is sent before the first call.
    pub fn new(settings: SshSettings) -> Self {
        Self {
            address: settings.target.place(),
            sudo: settings.target.user != "root",
            settings,
            link: Mutex::new(None),
            sessions: Semaphore::new(SESSIONS_MAX),
        }
    }

    /// Removes folders of jobs on the machine that ended, or belong to another
    /// boot, and are older than `days`. Returns how many.
    pub async fn sweep(&self, days: u32) -> Result<u32, NodeError> {
        node_script::sweep(self, days).await
    }

    /// The connection, made anew where it is gone. Others wait meanwhile, so that a
    /// machine is never dialled twice at once.
    async fn link(&self) -> Result<Arc<Link>, NodeError> {
        let mut slot = self.link.lock().await;
        if let Some(link) = slot.as_ref().filter(|link| !link.is_closed()) {
            return Ok(Arc::clone(link));
        }
        *slot = None;
        let link = Arc::new(connect(&self.settings).await?);
        *slot = Some(Arc::clone(&link));
        Ok(link)
    }

    /// Forgets a connection that failed us, unless another has taken its place.
    async fn forget(&self, failed: &Arc<Link>) {
        let mut slot = self.link.lock().await;
        if slot.as_ref().is_some_and(|link| Arc::ptr_eq(link, failed)) {
            *slot = None;
        }
    }

    fn broken(&self, why: String, delivery: Delivery) -> NodeError {
        NodeError::Broken {
            address: self.address.clone(),
            why,
            delivery,
        }
    }

    /// One try. `NotSent` means that the same call may be made again.
    async fn attempt(&self, command: &str, call: &Call<'_>) -> Result<Output, NodeError> {
        let link = self.link().await?;
        let channel = match open_session(&link).await {
            Ok(channel) => channel,
            Err(why) => {
                self.forget(&link).await;
                return Err(self.broken(why, Delivery::NotSent));
            }
        };
        match timeout(call.limit, run(channel, command, call)).await {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(Ended::Error(error))) => Err(error),
            Ok(Err(Ended::Broken(why, delivery))) => {
                self.forget(&link).await;
                Err(self.broken(why, delivery))
            }
            Err(_) => {
                // The line may be dead: the next call makes a new one.
                self.forget(&link).await;
                Err(call.timed_out(Delivery::Unknown))
            }
        }
    }
}

async fn open_session(link: &Link) -> Result<russh::Channel<russh::client::Msg>, String> {
    let mut pause = OPEN_PAUSE;
    for _ in 1..OPEN_TRIES {
        match timeout(CHANNEL_LIMIT, link.handle.channel_open_session()).await {
            Ok(Ok(channel)) => return Ok(channel),
            Ok(Err(russh::Error::ChannelOpenFailure(_))) => {
                tokio::time::sleep(pause).await;
                pause = pause.saturating_mul(2);
            }
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err("no channel could be opened in time".to_owned()),
        }
    }
    Err("the server opens no more sessions".to_owned())
}

#[async_trait]
impl Exec for SshShell {
    async fn exec(&self, call: Call<'_>) -> Result<Output, NodeError> {
        let command = command_line(self.sudo, call.args);
        let stdin: Vec<&[u8]> = [SCRIPT.as_bytes()]
            .into_iter()
            .chain(call.stdin.iter().copied())
            .collect();
        let call = Call {
            stdin: &stdin,
            ..call
        };
        let _permit = timeout(call.limit, self.sessions.acquire())
            .await
            .map_err(|_| call.timed_out(Delivery::NotSent))?
            .map_err(|error| self.broken(error.to_string(), Delivery::NotSent))?;
        match self.attempt(&command, &call).await {
            // A connection that had died unnoticed: once more, on a new one.
            Err(NodeError::Broken {
                delivery: Delivery::NotSent,
                ..
            }) => self.attempt(&command, &call).await,
            answer => answer,
        }
    }
}

#[async_trait]
impl NodeShell for SshShell {
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
        let mut last = String::new();
        // Twice: a connection may have died unnoticed.
        for _ in 0..2 {
            let link = self.link().await?;
            let opening =
                link.handle
                    .channel_open_direct_tcpip("127.0.0.1", port.into(), "127.0.0.1", 0);
            match timeout(CHANNEL_LIMIT, opening).await {
                Ok(Ok(channel)) => return Ok(Box::new(channel.into_stream().compat())),
                Ok(Err(russh::Error::ChannelOpenFailure(reason))) => {
                    return Err(self.nobody_listens(port, reason));
                }
                Ok(Err(error)) => last = error.to_string(),
                Err(_) => "no answer in time".clone_into(&mut last),
            }
            self.forget(&link).await;
        }
        Err(self.broken(last, Delivery::NotSent))
    }
}

impl SshShell {
    fn nobody_listens(&self, port: u16, reason: ChannelOpenFailure) -> NodeError {
        let why = match reason {
            ChannelOpenFailure::ConnectFailed => "nothing listens there".to_owned(),
            ChannelOpenFailure::AdministrativelyProhibited => {
                "its SSH server forbids forwarding (AllowTcpForwarding)".to_owned()
            }
            other => format!("{other:?}"),
        };
        NodeError::Unreachable {
            address: format!("127.0.0.1:{port} of {}", self.address),
            why,
        }
    }
}
