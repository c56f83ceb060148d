//! A run: everything one process of tests made, under one name that belongs to it.
//!
//! The run's folder `/run/trueup-bed/<run>` says who owns it and lists what was
//! made, before it is made; [`crate::sweep`] needs nothing else to remove it.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::{cgroup::Group, process::ProcessId, sweep};

/// Where runs record themselves; gone after a reboot of the host, as what they recorded is.
pub const RUNS_DIR: &str = "/run/trueup-bed";
/// Where machines' disks and etcd's data are: `/run` is RAM on most hosts.
pub const DISKS_DIR: &str = "/var/tmp/trueup-bed";

const FRESH_PREFIX: &str = ".new-";

/// One run, owned by this process. Dropping it removes everything it recorded.
#[derive(Debug)]
pub struct Run {
    id: String,
}

impl Run {
    /// Sweeps what dead owners left, then claims a new name.
    pub fn begin() -> Result<Self> {
        anyhow::ensure!(
            rustix::process::geteuid().is_root(),
            "the bed needs root: it makes machines"
        );
        sweep::sweep_dead()?;
        let _lock = lock_runs()?;
        for attempt in 0..32 {
            let id = fresh_id(attempt);
            let home = Path::new(RUNS_DIR).join(&id);
            if home.exists() {
                continue;
            }
            // Renamed into place with its owner's name inside: no instant without one.
            let fresh = Path::new(RUNS_DIR).join(format!("{FRESH_PREFIX}{id}"));
            fs::DirBuilder::new().mode(0o700).create(&fresh)?;
            fs::write(fresh.join("owner"), ProcessId::me().to_string())?;
            fs::rename(&fresh, &home)?;
            fs::create_dir_all(DISKS_DIR)?;
            fs::DirBuilder::new().mode(0o700).create(disks_of(&id))?;
            return Ok(Self { id });
        }
        bail!("found no free name for a run under {RUNS_DIR}")
    }

    /// Five hexadecimal digits: short enough for interface names (15 characters).
    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn home(&self) -> PathBuf {
        home_of(&self.id)
    }

    pub fn disks(&self) -> PathBuf {
        disks_of(&self.id)
    }

    pub fn group(&self, part: &str) -> Group {
        Group::of(&self.id, Some(part))
    }

    pub fn ledger(&self) -> Ledger {
        Ledger { home: self.home() }
    }
}

/// The lists of a run's folder, which [`crate::sweep`] goes by. What can be noted
/// before it is made is noted before.
#[derive(Debug, Clone)]
pub struct Ledger {
    home: PathBuf,
}

impl Ledger {
    /// Notes a process that the sweep may kill.
    pub fn process(&self, process: ProcessId) -> Result<()> {
        self.append("processes", &process.to_string())
    }

    /// Notes a link, before it is made.
    pub fn link(&self, name: &str) -> Result<()> {
        self.append("links", name)
    }

    /// Notes a network namespace, before it is made.
    pub fn namespace(&self, name: &str) -> Result<()> {
        self.append("namespaces", name)
    }

    /// Notes a mount point, before it is mounted.
    pub fn mount(&self, point: &Path) -> Result<()> {
        self.append("mounts", &point.display().to_string())
    }

    /// Notes a setting of the host with its present value, before it is changed.
    pub fn sysctl(&self, path: &str, value: &str) -> Result<()> {
        self.append("sysctls", &format!("{path}={value}"))
    }

    fn append(&self, list: &str, line: &str) -> Result<()> {
        let path = self.home.join(list);
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot record in {}", path.display()))?;
        file.write_all(format!("{line}\n").as_bytes())?;
        Ok(())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if std::env::var_os("TRUEUP_BED_KEEP").is_some() && std::thread::panicking() {
            return;
        }
        if let Err(error) = sweep::remove_run(&self.id)
            && !std::thread::panicking()
        {
            panic!("the bed's run {} could not be removed: {error:#}", self.id);
        }
    }
}

pub(crate) fn home_of(id: &str) -> PathBuf {
    Path::new(RUNS_DIR).join(id)
}

pub(crate) fn disks_of(id: &str) -> PathBuf {
    Path::new(DISKS_DIR).join(id)
}

/// Held while runs are claimed or swept, and while subnets are chosen.
pub(crate) fn lock_runs() -> Result<File> {
    fs::create_dir_all(RUNS_DIR)?;
    lock_file(&Path::new(RUNS_DIR).join(".lock"))
}

/// Held by a bed that asked to run alone: [`crate::BedSpec::alone`].
pub(crate) fn lock_big() -> Result<File> {
    fs::create_dir_all(RUNS_DIR)?;
    lock_file(&Path::new(RUNS_DIR).join(".big"))
}

fn lock_file(path: &Path) -> Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)?;
    file.lock()
        .with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

fn fresh_id(attempt: u32) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos());
    let digest = Sha256::digest(format!("{} {now} {attempt}", ProcessId::me()));
    digest
        .iter()
        .take(3)
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>()[..5]
        .to_owned()
}
