//! Exec: run the node script once, somewhere.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use trueup_model::port::{Delivery, NodeError};

/// One call of the script.
#[derive(Clone)]
pub(crate) struct Call<'a> {
    /// For errors: `probe`, `stage of /etc/hosts` …
    pub(crate) what: &'a str,
    /// Verb and arguments; they are seen in process lists, so never a secret.
    pub(crate) args: &'a [&'a str],
    /// What comes on stdin, piece after piece. May be secret.
    pub(crate) stdin: &'a [&'a [u8]],
    /// The whole call takes no longer.
    pub(crate) limit: Duration,
    /// Most bytes of stdout; more ends the call with an error.
    pub(crate) stdout_max: usize,
}

impl Debug for Call<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What is on stdin may be secret.
        f.debug_struct("Call")
            .field("what", &self.what)
            .field("args", &self.args)
            .finish_non_exhaustive()
    }
}

impl Call<'_> {
    /// The error of a call that took too long.
    pub(crate) fn timed_out(&self, delivery: Delivery) -> NodeError {
        NodeError::Timeout {
            what: self.what.to_owned(),
            limit_s: self.limit.as_secs(),
            delivery,
        }
    }

    /// The error of a call that said too much.
    pub(crate) fn flooded(&self) -> NodeError {
        NodeError::Reply {
            what: self.what.to_owned(),
            why: format!("it is longer than {} bytes", self.stdout_max),
        }
    }
}

/// Most bytes of stderr that are kept; the rest is read and dropped.
pub(crate) const STDERR_BYTES_MAX: usize = 8 * 1024;

/// What a call said.
pub(crate) struct Output {
    /// Exit code; 128 + n where signal n ended it.
    pub(crate) code: i32,
    /// At most `stdout_max` bytes. May be secret.
    pub(crate) stdout: Vec<u8>,
    /// At most [`STDERR_BYTES_MAX`] bytes.
    pub(crate) stderr: Vec<u8>,
}

impl Output {
    /// Keeps what still fits; the rest is dropped.
    pub(crate) fn keep_stderr(&mut self, more: &[u8]) {
        let room = STDERR_BYTES_MAX.saturating_sub(self.stderr.len());
        self.stderr
            .extend_from_slice(more.get(..room).unwrap_or(more));
    }
}

impl Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output")
            .field("code", &self.code)
            .field("stdout_bytes", &self.stdout.len())
            .finish_non_exhaustive()
    }
}

/// A way to run the script as root on one machine.
#[async_trait]
pub(crate) trait Exec: Send + Sync + Debug {
    /// Run it. An exit code other than 0 is an answer, not an error.
    async fn exec(&self, call: Call<'_>) -> Result<Output, NodeError>;
}
