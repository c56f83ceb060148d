//! A double of a machine, as far as the kube driver uses one: it hands over a
//! kubeconfig and connects to loopback. What it was asked is counted.

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

/// A machine that is loopback.
#[derive(Debug)]
pub struct LoopbackShell {
    kubeconfig: Mutex<Option<Vec<u8>>>,
    /// Where dials go, whatever port is asked for; 0: the port itself.
    pub port: AtomicU16,
    pub dials: AtomicUsize,
    pub reads: AtomicUsize,
}

impl LoopbackShell {
    pub fn new(kubeconfig: Vec<u8>) -> Self {
        Self {
            kubeconfig: Mutex::new(Some(kubeconfig)),
            port: AtomicU16::new(0),
            dials: AtomicUsize::new(0),
            reads: AtomicUsize::new(0),
        }
    }

    pub fn set_kubeconfig(&self, text: Vec<u8>) {
        *self.kubeconfig.lock().unwrap() = Some(text);
    }

    /// Nothing listens there.
    pub fn break_dials(&self) {
        self.port.store(1, Ordering::Relaxed);
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
        assert_eq!(path, "/etc/rancher/k3s/k3s.yaml");
        self.reads.fetch_add(1, Ordering::Relaxed);
        let text = self.kubeconfig.lock().unwrap().clone();
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
