//! Power of one machine: systemd-nspawn, started, started again after a reboot, and cut.
//!
//! A guest's reboot ends systemd-nspawn with code 133 under `--keep-unit`; a
//! thread of the owner starts it again. A power cut is SIGKILL to the guest's
//! PID 1: killing systemd-nspawn instead would leave the guest alive.

use std::{
    fs::{self, OpenOptions},
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{cgroup::Group, process::ProcessId, run::Ledger, wait::wait_for};

/// What systemd-nspawn answers when the guest asked for a reboot (systemd-nspawn(1), "EXIT STATUS").
const REBOOT_CODE: i32 = 133;
/// From start to a guest PID 1; it takes 50 ms on an idle machine.
const INIT_LIMIT: Duration = Duration::from_secs(30);

/// How one machine is started.
#[derive(Debug, Clone)]
pub struct Launch {
    /// systemd-nspawn with its arguments.
    pub words: Vec<String>,
    pub group: Group,
    pub ledger: Ledger,
    /// What the guest writes on its console, over all its boots.
    pub console: PathBuf,
}

/// The switch and what is known of the guest.
#[derive(Debug, Clone, Default)]
pub struct Power {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Whether a reboot is followed by another start.
    wanted: bool,
    /// Whether the thread that starts it is there.
    running: bool,
    guest: Option<ProcessId>,
    boots: u32,
    failure: Option<String>,
}

impl Power {
    /// The guest's PID 1 as the host sees it; `None` when off or between two boots.
    pub fn guest(&self) -> Option<ProcessId> {
        self.lock().guest
    }

    /// How often the guest has been started since the bed began.
    pub fn boots(&self) -> u32 {
        self.lock().boots
    }

    pub fn is_on(&self) -> bool {
        self.lock().running
    }

    /// Starts the guest and returns when its PID 1 exists.
    pub fn switch_on(&self, launch: &Launch) -> Result<()> {
        let before = {
            let mut state = self.lock();
            anyhow::ensure!(!state.running, "the machine is on already");
            (state.wanted, state.running, state.failure) = (true, true, None);
            state.boots
        };
        let (shared, launch) = (Arc::clone(&self.shared), launch.clone());
        thread::Builder::new()
            .name("bed-power".to_owned())
            .spawn(move || {
                let outcome = keep_running(&launch, &shared);
                let mut state = lock(&shared);
                (state.running, state.guest) = (false, None);
                state.failure = outcome.err().map(|error| format!("{error:#}"));
                shared.changed.notify_all();
            })?;
        self.wait_for_boot(before + 1, INIT_LIMIT * 2)
    }

    /// Returns when the guest has been started `boots` times.
    pub fn wait_for_boot(&self, boots: u32, limit: Duration) -> Result<()> {
        let reached = self.wait(limit, |state| state.boots >= boots || !state.running)?;
        if !reached || self.boots() < boots {
            let failure = self
                .lock()
                .failure
                .clone()
                .unwrap_or_else(|| "it went off".to_owned());
            bail!("the machine did not start: {failure}");
        }
        Ok(())
    }

    /// Kills the guest where it stands and returns when nothing of it is left.
    pub fn cut(&self, limit: Duration) -> Result<()> {
        self.lock().wanted = false;
        let begun = Instant::now();
        loop {
            let (running, guest) = {
                let state = self.lock();
                (state.running, state.guest)
            };
            if !running {
                return Ok(());
            }
            // Between two boots there is no PID 1 yet: look again when there is one.
            if let Some(guest) = guest {
                guest.kill()?;
            }
            anyhow::ensure!(begun.elapsed() < limit, "the machine could not be killed");
            self.wait(Duration::from_millis(100), |state| !state.running)?;
        }
    }

    /// Returns when a guest that shuts down by itself is off.
    pub fn wait_for_off(&self, limit: Duration) -> Result<()> {
        self.lock().wanted = false;
        anyhow::ensure!(
            self.wait(limit, |state| !state.running)?,
            "the machine did not go off in {limit:?}"
        );
        Ok(())
    }

    fn wait(&self, limit: Duration, holds: impl Fn(&State) -> bool) -> Result<bool> {
        let state = self.lock();
        let (state, timeout) = self
            .shared
            .changed
            .wait_timeout_while(state, limit, |state| !holds(state))
            .map_err(|_| anyhow::anyhow!("the power thread panicked"))?;
        drop(state);
        Ok(!timeout.timed_out())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.shared)
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    shared
        .state
        .lock()
        .expect("the power thread never panics while it holds the lock")
}

fn keep_running(launch: &Launch, shared: &Shared) -> Result<()> {
    loop {
        let status = run_once(launch, shared)?;
        let mut state = lock(shared);
        state.guest = None;
        shared.changed.notify_all();
        if status.code() != Some(REBOOT_CODE) || !state.wanted {
            return Ok(());
        }
    }
}

/// One life of the guest, from its PID 1 to the end of systemd-nspawn.
fn run_once(launch: &Launch, shared: &Shared) -> Result<ExitStatus> {
    // Groups of an earlier life would show the new systemd units that it does not have.
    launch.group.destroy(INIT_LIMIT)?;
    launch.group.create()?;
    let console = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&launch.console)?;
    let mut words = launch.group.enter_words();
    words.extend(launch.words.iter().cloned());
    let mut nspawn = Command::new("setsid")
        .args(&words)
        // Opens the network's settings, which are the namespace's own, and no others.
        .env("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "network")
        .stdin(Stdio::null())
        .stdout(console.try_clone()?)
        .stderr(console)
        .spawn()
        .context("cannot start systemd-nspawn")?;
    let pid = i32::try_from(nspawn.id())?;
    let guest = wait_for("the machine's PID 1", INIT_LIMIT, || {
        match nspawn.try_wait() {
            Ok(None) => ProcessId::of(pid)?
                .children()
                .into_iter()
                .find(ProcessId::is_guest_init)
                .map(Some),
            _ => Some(None),
        }
    });
    if let Some(process) = ProcessId::of(pid) {
        launch.ledger.process(process)?;
    }
    let Ok(Some(guest)) = guest else {
        launch.group.destroy(INIT_LIMIT)?;
        drop(nspawn.wait());
        bail!(
            "systemd-nspawn ended: {}",
            last_lines(&fs::read_to_string(&launch.console)?)
        );
    };
    launch.ledger.process(guest)?;
    {
        let mut state = lock(shared);
        (state.guest, state.boots) = (Some(guest), state.boots + 1);
        shared.changed.notify_all();
    }
    Ok(nspawn.wait()?)
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join(" | ")
}
