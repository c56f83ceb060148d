//! The file of a simulated fleet: locked while it is used, replaced whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{FlockOperation, flock};
use trueup_sim::{Keeper, SimFleet};

/// A fleet of five machines has some 200 KB.
const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The file of a simulated fleet.
#[derive(Debug)]
pub(crate) struct FleetFile {
    path: Utf8PathBuf,
    /// The fleet as this process last saw it, with the file that it was read from:
    /// whoever changes the fleet puts another file in its place.
    known: Mutex<Option<(Stamp, SimFleet)>>,
}

/// Device, inode, and when it was written.
type Stamp = (u64, u64, i64, i64);

impl FleetFile {
    /// The file, whether it is there or not.
    pub(crate) fn new(path: &Utf8Path) -> Self {
        Self {
            path: path.to_owned(),
            known: Mutex::new(None),
        }
    }

    /// Make it anew.
    pub(crate) fn create(&self, fleet: SimFleet) -> Result<(), String> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let _lock = self.lock().map_err(|error| self.failure(&error))?;
        let stamp = self.save(&fleet).map_err(|error| self.failure(&error))?;
        *known = Some((stamp, fleet));
        Ok(())
    }

    fn failure(&self, error: &dyn std::fmt::Display) -> String {
        format!("the simulated fleet {}: {error}", self.path)
    }

    /// Held until it is dropped, by one process at a time; each holds it for
    /// milliseconds.
    fn lock(&self) -> io::Result<File> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(format!("{}.lock", self.path))?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    }

    fn stamp(&self) -> io::Result<Stamp> {
        let data = fs::metadata(&self.path)?;
        if data.len() > BYTES_MAX {
            let why = format!("it has {} bytes, the limit is {BYTES_MAX}", data.len());
            return Err(io::Error::other(why));
        }
        Ok((data.dev(), data.ino(), data.mtime(), data.mtime_nsec()))
    }

    fn load(&self) -> Result<SimFleet, String> {
        let text = fs::read(&self.path).map_err(|error| self.failure(&error))?;
        SimFleet::from_json(&text).map_err(|error| self.failure(&error))
    }

    /// Written beside and renamed: a reader never sees half a fleet. It is not made to
    /// outlast a power cut of the host: it can be made anew.
    fn save(&self, fleet: &SimFleet) -> io::Result<Stamp> {
        let new = format!("{}.new", self.path);
        let text = fleet.to_json().map_err(io::Error::other)?;
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&text)?;
        drop(file);
        fs::rename(&new, &self.path)?;
        self.stamp()
    }
}

#[async_trait]
impl Keeper for FleetFile {
    fn visit(&self, act: &mut dyn FnMut(&mut SimFleet, i64)) -> Result<(), String> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let _lock = self.lock().map_err(|error| self.failure(&error))?;
        let stamp = self.stamp().map_err(|error| self.failure(&error))?;
        let before = match known.take() {
            Some((seen, fleet)) if seen == stamp => fleet,
            Some(_) | None => self.load()?,
        };
        let mut fleet = before.clone();
        act(&mut fleet, super::super::clock::now_ms());
        let stamp = if fleet == before {
            stamp
        } else {
            self.save(&fleet).map_err(|error| self.failure(&error))?
        };
        *known = Some((stamp, fleet));
        Ok(())
    }

    async fn pause(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}
