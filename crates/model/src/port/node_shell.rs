//! NodeShell: one machine.

use std::fmt::Debug;

use async_trait::async_trait;
use futures_io::{AsyncRead, AsyncWrite};
use secrecy::SecretSlice;

use crate::facts::machine::{ProbeReply, ProbeRequest};
use crate::id::Digest;
use crate::job::{JobId, JobSpec, JobState};

/// A connection to a port of the machine.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// Bytes that are to become a file on the machine.
#[derive(Debug)]
pub struct Staged<'a> {
    /// The job that will rename it.
    pub job: &'a JobId,
    /// The declared path; the bytes go into a 0600 sibling of it.
    pub path: &'a str,
    /// SHA-256 of the bytes; checked on the machine.
    pub sha256: &'a Digest,
    /// The bytes.
    pub content: &'a SecretSlice<u8>,
}

/// Whether a request had an effect, when its reply is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// It never left: nothing happened.
    NotSent,
    /// It may have happened.
    Unknown,
}

/// Why a machine could not be asked or told.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// No connection: refused, timed out, no route.
    #[error("{address} is unreachable: {why}")]
    Unreachable {
        /// Address and port.
        address: String,
        /// What happened.
        why: String,
    },
    /// The host showed a key that is not pinned. Never retried by itself.
    #[error("{address} shows the host key {shown}, which is not pinned")]
    HostKey {
        /// Address and port.
        address: String,
        /// `SHA256:…` of the key that it showed.
        shown: String,
        /// Its public key line, for the Node document.
        line: String,
    },
    /// No identity was accepted.
    #[error("{address} refuses user {user}: {why}")]
    Refused {
        /// Address and port.
        address: String,
        /// The user.
        user: String,
        /// What was tried.
        why: String,
    },
    /// The host configuration does not allow sending anything there.
    #[error("{address} is not within allow.addresses")]
    NotAllowed {
        /// The address.
        address: String,
    },
    /// The machine lacks something that trueup needs (systemd, sudo, flock).
    #[error("the machine lacks {what}")]
    Lacks {
        /// What, and what to do.
        what: String,
    },
    /// No space left on the machine.
    #[error("no space left on {path}")]
    NoSpace {
        /// The path that could not be written.
        path: String,
    },
    /// It took too long.
    #[error("{what} took longer than {limit_s} s")]
    Timeout {
        /// What took so long.
        what: String,
        /// The deadline in seconds.
        limit_s: u64,
        /// Whether it may have had an effect.
        delivery: Delivery,
    },
    /// The connection broke in the middle.
    #[error("the connection to {address} broke: {why}")]
    Broken {
        /// Address and port.
        address: String,
        /// What happened.
        why: String,
        /// Whether it may have had an effect.
        delivery: Delivery,
    },
    /// The node script ended with an error of its own.
    #[error("{what} failed with exit code {code}: {output}")]
    Failed {
        /// What was asked.
        what: String,
        /// Exit code.
        code: i32,
        /// What it said, capped and cleaned.
        output: String,
    },
    /// The reply cannot be understood.
    #[error("the reply of {what} is not understood: {why}")]
    Reply {
        /// What was asked.
        what: String,
        /// What is wrong with it.
        why: String,
    },
}

/// One machine. Implementations keep one connection and bring it back by
/// themselves; every call has a deadline of its own.
#[async_trait]
pub trait NodeShell: Send + Sync + Debug {
    /// Look at everything that is asked for, in one round trip.
    async fn probe(&self, request: &ProbeRequest) -> Result<ProbeReply, NodeError>;

    /// Put bytes beside their declared path, 0600, over a channel of their own.
    async fn stage(&self, file: Staged<'_>) -> Result<(), NodeError>;

    /// Start a job, or find it started: a job of the same id and intent is never
    /// started twice.
    async fn start(&self, job: &JobSpec) -> Result<(), NodeError>;

    /// What became of a job; waits up to `wait_s` seconds for its end.
    async fn job(&self, id: &JobId, wait_s: u32) -> Result<JobState, NodeError>;

    /// Read a file that may be secret; `None` if it does not exist. At most 1 MiB.
    async fn read_secret(&self, path: &str) -> Result<Option<SecretSlice<u8>>, NodeError>;

    /// A byte stream to `127.0.0.1:port` of the machine.
    async fn dial(&self, port: u16) -> Result<Box<dyn ByteStream>, NodeError>;
}
