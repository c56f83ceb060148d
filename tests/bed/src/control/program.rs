//! One program of the control plane: started in the run's group, stopped, killed, frozen.

use std::{
    fs::{self, OpenOptions},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::{cgroup::Group, process::ProcessId, run::Ledger};

/// A program with everything it takes to start it again as it was.
#[derive(Debug)]
pub struct Program {
    name: &'static str,
    words: Vec<String>,
    log: PathBuf,
    group: Group,
    ledger: Ledger,
    child: Mutex<Option<Child>>,
}

impl Program {
    pub fn new(
        name: &'static str,
        words: Vec<String>,
        log: PathBuf,
        group: Group,
        ledger: Ledger,
    ) -> Self {
        Self {
            name,
            words,
            log,
            group,
            ledger,
            child: Mutex::new(None),
        }
    }

    pub fn start(&self) -> Result<()> {
        let mut child = self.child();
        anyhow::ensure!(child.is_none(), "{} runs already", self.name);
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?;
        let mut words = self.group.enter_words();
        words.extend(self.words.iter().cloned());
        let started = Command::new("setsid")
            .args(&words)
            .env_remove("KUBECONFIG")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.name))?;
        if let Some(process) = ProcessId::of(i32::try_from(started.id())?) {
            self.ledger.process(process)?;
        }
        *child = Some(started);
        Ok(())
    }

    /// An error with the end of its log when it ended by itself.
    pub fn check(&self) -> Result<()> {
        let mut child = self.child();
        let Some(running) = child.as_mut() else {
            bail!("{} is not started", self.name)
        };
        if let Some(status) = running.try_wait()? {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            bail!(
                "{} ended ({status}): {}",
                self.name,
                lines[lines.len().saturating_sub(8)..].join("\n")
            );
        }
        Ok(())
    }

    /// SIGKILL, and it is gone when this returns.
    pub fn kill(&self) -> Result<()> {
        if let Some(mut child) = self.child().take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Stops it where it stands: connections stay open and nothing answers.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child();
        let running = child
            .as_ref()
            .with_context(|| format!("{} is not started", self.name))?;
        // Not yet waited for, so the id is still its own.
        let pid =
            Pid::from_raw(i32::try_from(running.id())?).context("a process id is positive")?;
        Ok(kill_process(pid, signal)?)
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().expect("no holder of this lock panics")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.kill());
    }
}
