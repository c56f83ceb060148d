//! One run of the `git` program on trueup's mirror: never asks, never waits longer
//! than its deadline, never leaves a helper (ssh, git-remote-https) behind.
//!
//! Shared by the drivers `git` (the mirror) and `forge` (notes in the mirror).

use std::process::Stdio;
use std::time::Duration;

use camino::Utf8Path;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use trueup_model::port::GitError;

/// How much of git's own words is kept.
const STDERR_BYTES_MAX: usize = 8 * 1024;

/// What leads git to another repository than the named one
/// (`git rev-parse --local-env-vars`, 2.39), and what makes it talk.
const STRIPPED: &[&str] = &[
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_COMMON_DIR",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
    "GIT_GRAFT_FILE",
    "GIT_REPLACE_REF_BASE",
    "GIT_NOTES_REF",
    "GIT_TRACE",
    "GIT_TRACE_CURL",
    "GIT_TRACE_PACKET",
    "GIT_CURL_VERBOSE",
    "LANGUAGE",
    "LC_ALL",
];

/// Options in front of every command. Hooks of a global `core.hooksPath` would run
/// in the mirror too; a global `log.*` cannot matter, since only plumbing is used.
const OPTIONS: &[&str] = &[
    "--no-replace-objects",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "submodule.recurse=false",
    "-c",
    "gc.auto=0",
    "-c",
    "maintenance.auto=false",
    // Known from 2.36: refs and objects are on the disk when git says so. git's own
    // default leaves loose objects to chance at a power cut.
    "-c",
    "core.fsync=all",
];

/// One run.
#[derive(Debug)]
pub(crate) struct GitProcess<'a> {
    /// The repository; `None` for commands that need none.
    pub(crate) dir: Option<&'a Utf8Path>,
    /// Command and arguments; never a secret.
    pub(crate) args: &'a [&'a str],
    /// What it reads; empty means nothing.
    pub(crate) stdin: &'a [u8],
    /// Its deadline.
    pub(crate) limit: Duration,
    /// What it may answer, in bytes.
    pub(crate) stdout_max: usize,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct GitEnd {
    /// Exit code; `None` after a signal.
    pub(crate) code: Option<i32>,
    /// Its answer.
    pub(crate) stdout: Vec<u8>,
    /// Its words, cut.
    pub(crate) stderr: String,
}

impl GitEnd {
    /// It did what was asked.
    pub(crate) fn is_success(&self) -> bool {
        self.code == Some(0)
    }
    /// The answer as text without the line feed at its end.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }
    /// Its words on one line, without advice.
    pub(crate) fn words(&self) -> String {
        one_line(&self.stderr)
    }
}

/// git's words on one line, without its paragraph of advice.
pub(crate) fn one_line(stderr: &str) -> String {
    let lines: Vec<&str> = stderr
        .split("Please make sure you have the correct access rights")
        .next()
        .unwrap_or_default()
        .lines()
        .map(|line| line.trim().trim_start_matches("fatal: "))
        .filter(|line| !line.is_empty())
        .collect();
    lines.join("; ")
}

impl<'a> GitProcess<'a> {
    /// A command that answers little and soon.
    pub(crate) fn short(dir: &'a Utf8Path, args: &'a [&'a str]) -> Self {
        Self {
            dir: Some(dir),
            args,
            stdin: &[],
            limit: Duration::from_secs(30),
            stdout_max: 64 * 1024,
        }
    }

    /// The command's name: what stands first, but for `-c NAME=VALUE`.
    fn name(&self) -> String {
        let mut args = self.args.iter();
        while let Some(arg) = args.next() {
            if *arg != "-c" {
                return (*arg).to_owned();
            }
            args.next();
        }
        String::new()
    }

    fn command(&self) -> Command {
        let mut command = Command::new("git");
        command.args(OPTIONS);
        if let Some(dir) = self.dir {
            // An explicit directory: no discovery, and no question whose it is.
            command.arg(format!("--git-dir={dir}"));
        }
        command.args(self.args);
        for name in STRIPPED {
            command.env_remove(name);
        }
        command
            // Only messages: LC_ALL would change how file names are read.
            .env("LC_MESSAGES", "C")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "true")
            // Asked for a passphrase or an unknown host key, ssh hears no. Known
            // from OpenSSH 8.4; a setting of one's own (BatchMode) wins anyway.
            .env("SSH_ASKPASS", "false")
            .env("SSH_ASKPASS_REQUIRE", "force")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_DEFAULT_REF_FORMAT", "files")
            .env("GIT_DEFAULT_HASH", "sha1")
            .stdin(if self.stdin.is_empty() {
                Stdio::null()
            } else {
                Stdio::piped()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command
    }

    /// Runs it to its end, or kills it with all its helpers.
    pub(crate) async fn run(&self) -> Result<GitEnd, GitError> {
        let mut child = self.command().spawn().map_err(|error| GitError::NoGit {
            why: error.to_string(),
        })?;
        let mut group = Group::of(&child);
        let end = timeout(self.limit, self.converse(&mut child)).await;
        let Ok(end) = end else {
            return Err(GitError::Timeout {
                what: self.name(),
                limit_s: self.limit.as_secs(),
            });
        };
        let end = end?;
        group.ended();
        Ok(end)
    }

    async fn converse(&self, child: &mut Child) -> Result<GitEnd, GitError> {
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let feed = async {
            if let Some(mut pipe) = stdin {
                // A git that ends early says why on stderr: the broken pipe does not matter.
                drop(pipe.write_all(self.stdin).await);
                drop(pipe.shutdown().await);
            }
        };
        let ((), answer, words) = tokio::join!(
            feed,
            read_up_to(stdout, self.stdout_max),
            read_all_keep(stderr, STDERR_BYTES_MAX)
        );
        let failed = |why: String| GitError::Failed {
            what: self.name(),
            why,
        };
        let stdout = answer.map_err(|error| failed(error.to_string()))?;
        if stdout.len() > self.stdout_max {
            return Err(failed(format!(
                "it answers more than {} bytes",
                self.stdout_max
            )));
        }
        let status = child
            .wait()
            .await
            .map_err(|error| failed(error.to_string()))?;
        Ok(GitEnd {
            code: status.code(),
            stdout,
            stderr: String::from_utf8_lossy(&words).into_owned(),
        })
    }
}

async fn read_up_to(from: Option<impl AsyncRead + Unpin>, max: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        let max = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
        from.take(max).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// The first `keep` bytes; the rest is read and dropped, so that nobody blocks.
async fn read_all_keep(from: Option<impl AsyncRead + Unpin>, keep: usize) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut from) = from else {
        return kept;
    };
    let mut buffer = vec![0; 4096];
    while let Ok(count) = from.read(&mut buffer).await {
        let Some(part) = buffer.get(..count).filter(|part| !part.is_empty()) else {
            break;
        };
        let room = keep.saturating_sub(kept.len());
        kept.extend(part.iter().take(room));
    }
    kept
}

/// The process group of a run, killed unless the run has ended: also when the
/// future is dropped in the middle.
#[derive(Debug)]
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.and_then(Pid::from_raw))
    }
    fn ended(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0.take() {
            // It may have ended by itself just now.
            _ = kill_process_group(group, Signal::KILL);
        }
    }
}
