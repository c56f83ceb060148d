//! The exclusive lock on a state directory: one `run` or `apply` at a time. The
//! kernel lets go of it when the process ends, however it ends.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use camino::Utf8Path;
use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// Host name: the directory may be shared.
    pub host: String,
    /// What it does (`run`, `apply`).
    pub doing: String,
    /// Since when.
    pub since: Timestamp,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "trueup {} (process {} on {}) since {}",
            self.doing,
            self.pid,
            self.host,
            self.since.strftime("%Y-%m-%d %H:%M:%SZ")
        )
    }
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("{dir} is held by {}", holder.as_ref().map_or_else(|| "another process".to_owned(), ToString::to_string))]
    Held {
        /// The state directory.
        dir: String,
        /// Who, where it could be read.
        holder: Option<Holder>,
    },
    /// The lock file cannot be made or locked.
    #[error("cannot lock {dir}: {why}")]
    Cannot {
        /// The state directory.
        dir: String,
        /// What happened.
        why: String,
    },
}

/// A held lock. Dropping it lets go.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

/// A holder's line is some 100 bytes.
const HOLDER_BYTES_MAX: u64 = 4096;

impl StateLock {
    /// Takes the lock of a state directory that exists, or says who has it.
    pub fn take(state_dir: &Utf8Path, doing: &str) -> Result<Self, LockError> {
        let cannot = |why: String| LockError::Cannot {
            dir: state_dir.to_string(),
            why,
        };
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(state_dir.join("lock"))
            .map_err(|error| cannot(error.to_string()))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(LockError::Held {
                    dir: state_dir.to_string(),
                    holder: read_holder(&mut file),
                });
            }
            Err(error) => return Err(cannot(error.to_string())),
        }
        let holder = Holder {
            pid: std::process::id(),
            host: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            doing: doing.to_owned(),
            since: Timestamp::now(),
        };
        write_holder(&mut file, &holder).map_err(|error| cannot(error.to_string()))?;
        Ok(Self { _file: file })
    }
}

fn read_holder(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.take(HOLDER_BYTES_MAX).read_to_string(&mut text).ok()?;
    serde_json::from_str(text.trim()).ok()
}

fn write_holder(file: &mut File, holder: &Holder) -> std::io::Result<()> {
    let line = serde_json::to_string(holder)?;
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(line.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_is_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let first = StateLock::take(dir, "run").unwrap();
        let error = StateLock::take(dir, "apply").unwrap_err();
        let LockError::Held {
            holder: Some(holder),
            ..
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!(
            (holder.pid, holder.doing.as_str()),
            (std::process::id(), "run")
        );
        assert!(
            error.to_string().contains("trueup run (process "),
            "{error}"
        );
        drop(first);
        StateLock::take(dir, "apply").unwrap();
    }
}
