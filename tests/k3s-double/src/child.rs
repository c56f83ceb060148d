//! Control-plane parts as child processes that die with this one, however it ends.
//!
//! In k3s they are threads of one process. The parent death signal must be set between fork and exec, which safe Rust
//! cannot do; so this program starts itself with `exec-part`, which sets it and becomes the part.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use tokio::process::{Child, Command};

/// The hidden sub-command: `exec-part PARENT-PID PROGRAM ARGUMENTS…`.
pub(crate) const EXEC_PART: &str = "exec-part";

/// Where the real binaries are; `DOUBLE_BIN_DIR` for a run outside the bed's machines.
pub(crate) fn binary(name: &str) -> PathBuf {
    let directory = std::env::var_os("DOUBLE_BIN_DIR").unwrap_or_else(|| "/opt/k8s".into());
    Path::new(&directory).join(name)
}

/// The child's half. Returns only when it fails.
pub(crate) fn exec_part(arguments: &[String]) -> Result<()> {
    let [parent, program, rest @ ..] = arguments else {
        bail!("{EXEC_PART} needs a parent and a program");
    };
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have died before the signal was set: then nobody would ever end this part.
    if getppid()
        .map(|pid| pid.as_raw_nonzero().get().to_string())
        .as_deref()
        != Some(parent)
    {
        bail!("the parent is gone");
    }
    Err(std::process::Command::new(program).args(rest).exec())
        .with_context(|| format!("execute {program}"))
}

/// A running part.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    child: Child,
}

impl Part {
    /// Starts `/opt/k8s/<name>`. Must be called on the main thread: the death signal follows the thread that forks.
    pub(crate) fn start(name: &'static str, arguments: &[String]) -> Result<Self> {
        let program = binary(name);
        if !program.exists() {
            bail!("{} does not exist", program.display());
        }
        let child = Command::new("/proc/self/exe")
            .arg0("k3s")
            .arg(EXEC_PART)
            .arg(std::process::id().to_string())
            .arg(&program)
            .args(arguments)
            // etcd and kube-apiserver would say READY for themselves.
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        Ok(Self { name, child })
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        // What cannot be waited for is not running as our part any more.
        self.child.wait().await.unwrap_or_default()
    }

    /// Asks it to end and kills it when it does not within `patience`.
    pub(crate) async fn stop(&mut self, patience: Duration) {
        if let Some(pid) = self
            .child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw)
        {
            // It may just have ended by itself.
            let _ = kill_process(pid, Signal::TERM);
        }
        if tokio::time::timeout(patience, self.child.wait())
            .await
            .is_err()
        {
            drop(self.child.kill().await);
        }
    }
}
