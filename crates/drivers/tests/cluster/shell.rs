//! A double of a machine, as far as these drivers use one: it hands over files
//! and connects to loopback. What it was asked is counted.

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use async_trait::async_trait;
use secrecy::SecretSlice;
use tokio::net::TcpStream;
use tokio_util::compat::TokioAsyncReadCompatExt as _;
use trueup_model::facts::machine::{ProbeReply, ProbeRequest};
use trueup_model::job::{JobId, JobSpec, JobState};
use trueup_model::port::{ByteStream, NodeError, NodeShell, Staged};

/// Where k3s keeps its admin's kubeconfig.
pub const KUBECONFIG: &str = "/etc/rancher/k3s/k3s.yaml";

/// A machine that is loopback.
#[derive(Debug, Default)]
pub struct LoopbackShell {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Where dials go, whatever port is asked for; 0: the port itself.
    pub port: AtomicU16,
    pub dials: AtomicUsize,
    pub reads: AtomicUsize,
    is_away: bool,
}

impl LoopbackShell {
    /// A machine with these files.
    pub fn with_files(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        Self {
            files: Mutex::new(files.into_iter().collect()),
            ..Self::default()
        }
    }

    /// A k3s server, as far as its kubeconfig goes.
    pub fn new(kubeconfig: Vec<u8>) -> Self {
        Self::with_files([(KUBECONFIG.to_owned(), kubeconfig)])
    }

    /// A machine that does not answer.
    pub fn away() -> Self {
        Self {
            is_away: true,
            ..Self::default()
        }
    }

    pub fn write(&self, path: &str, text: Vec<u8>) {
        self.files.lock().unwrap().insert(path.to_owned(), text);
    }

    /// Where dials go from now on.
    pub fn dial_to(&self, port: u16) {
        self.port.store(port, Ordering::Relaxed);
    }
}

fn unreachable(error: &io::Error) -> NodeError {
    NodeError::Unreachable {
        address: "loopback".to_owned(),
        why: error.to_string(),
    }
}

fn unasked(what: &str) -> NodeError {
    NodeError::Lacks {
        what: format!("{what} in this double"),
    }
}

#[async_trait]
impl NodeShell for LoopbackShell {
    async fn probe(&self, _: &ProbeRequest) -> Result<ProbeReply, NodeError> {
        Err(unasked("probe"))
    }
    async fn stage(&self, _: Staged<'_>) -> Result<(), NodeError> {
        Err(unasked("stage"))
    }
    async fn start(&self, _: &JobSpec) -> Result<(), NodeError> {
        Err(unasked("start"))
    }
    async fn job(&self, _: &JobId, _: u32) -> Result<JobState, NodeError> {
        Err(unasked("job"))
    }

    async fn read_secret(&self, path: &str) -> Result<Option<SecretSlice<u8>>, NodeError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        if self.is_away {
            return Err(unreachable(&io::Error::other("it is off")));
        }
        let text = self.files.lock().unwrap().get(path).cloned();
        Ok(text.map(SecretSlice::from))
    }

    async fn dial(&self, port: u16) -> Result<Box<dyn ByteStream>, NodeError> {
        self.dials.fetch_add(1, Ordering::Relaxed);
        let to = match self.port.load(Ordering::Relaxed) {
            0 => port,
            other => other,
        };
        let stream = TcpStream::connect(("127.0.0.1", to))
            .await
            .map_err(|error| unreachable(&error))?;
        Ok(Box::new(stream.compat()))
    }
}
