//! The state directory: who may be in it, and only one at a time.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::thread;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, test_kill_process};
use trueup_model::port::StoreError;

use super::SqliteStore;

const LOCK: &str = "lock";
const STORE: &str = "trueup.db";
const MIRROR: &str = "mirror.git";
const RELEASES: &str = "releases";

/// A holder writes its name right after it took the lock: a moment later it is
/// there to be read.
const NAME_TRIES: u32 = 20;
const NAME_WAIT: Duration = Duration::from_millis(10);
/// The lock file holds three short lines.
const NAME_BYTES_MAX: u64 = 1024;

/// The process that holds a state directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// The host that it runs on.
    pub host: String,
    /// Since when, RFC 3339.
    pub since: String,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "process {} on {} since {}",
            self.pid, self.host, self.since
        )
    }
}

/// Why the state directory cannot be used; every message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// Another run holds it.
    #[error(
        "the state directory {path} is held by {}; \
         ask that run (`trueup status`), or end it first",
        .by.as_ref().map_or_else(|| "another process".to_owned(), ToString::to_string)
    )]
    Held {
        /// The directory.
        path: Utf8PathBuf,
        /// Who, where it said so.
        by: Option<Holder>,
    },
    /// Others could put a file into it.
    #[error(
        "the state directory {path} can be written by others (mode {mode:04o}); \
         run `chmod 0700 {path}` after looking at what is in it"
    )]
    Open {
        /// The directory.
        path: Utf8PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Somebody else owns it.
    #[error(
        "the state directory {path} belongs to user id {owner}, not to user id {us}; \
         run trueup as that user, or run `chown -R {us} {path}`"
    )]
    Foreign {
        /// The directory.
        path: Utf8PathBuf,
        /// Its owner.
        owner: u32,
        /// Who we are.
        us: u32,
    },
    /// It is something else.
    #[error("{path} is not a directory; set stateDirectory to one that trueup may have")]
    NotADirectory {
        /// The path.
        path: Utf8PathBuf,
    },
    /// It does not exist, and only looking was asked for.
    #[error("there is no state directory {path}; `trueup run` or `trueup apply` makes it")]
    Missing {
        /// The path.
        path: Utf8PathBuf,
    },
    /// Somebody removed or replaced it while it was in use.
    #[error(
        "the state directory {path} was removed or replaced while trueup used it; \
         start trueup again: it converges without what was in it"
    )]
    Lost {
        /// The directory.
        path: Utf8PathBuf,
    },
    /// It cannot be written.
    #[error(
        "the state directory {path} cannot be written: {why}; \
         mount its file system writable and let the user of trueup own it"
    )]
    ReadOnly {
        /// The path.
        path: Utf8PathBuf,
        /// What the system said.
        why: String,
    },
    /// No space left.
    #[error("no space left for the state directory {path}; free space on its file system")]
    Full {
        /// The path.
        path: Utf8PathBuf,
    },
    /// Anything else.
    #[error("{what} {path}")]
    Io {
        /// What was done.
        what: &'static str,
        /// The path.
        path: Utf8PathBuf,
        /// What happened.
        #[source]
        source: io::Error,
    },
}

impl StateDirError {
    fn io(what: &'static str, path: &Utf8Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Self::ReadOnly {
                path,
                why: source.to_string(),
            },
            io::ErrorKind::NotADirectory => Self::NotADirectory { path },
            _ => Self::Io { what, path, source },
        }
    }
}

/// The state directory, held by this process until it is dropped. The kernel
/// frees it when the process dies, however it dies; children do not inherit it.
#[derive(Debug)]
pub struct StateDir {
    path: Utf8PathBuf,
    lock: File,
}

impl StateDir {
    /// Makes the directory (0700) where it is missing, and takes its lock.
    pub fn open(path: &Utf8Path) -> Result<Self, StateDirError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .or_else(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => Ok(()),
                _ => Err(StateDirError::io("make", path, error)),
            })?;
        check_private(path)?;
        let file = path.join(LOCK);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(nofollow())
            .open(&file)
            .map_err(|error| StateDirError::io("open", &file, error))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(StateDirError::Held {
                    path: path.to_owned(),
                    by: wait_for_name(&file),
                });
            }
            Err(error) => return Err(StateDirError::io("lock", &file, error.into())),
        }
        write_name(&mut lock).map_err(|error| StateDirError::io("write", &file, error))?;
        Ok(Self {
            path: path.to_owned(),
            lock,
        })
    }

    /// Looks at a directory without its lock and without changing it.
    pub fn peek(path: &Utf8Path) -> Result<StateDirView, StateDirError> {
        match fs::metadata(path) {
            Ok(_) => check_private(path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let path = path.to_owned();
                return Err(StateDirError::Missing { path });
            }
            Err(error) => return Err(StateDirError::io("look at", path, error)),
        }
        Ok(StateDirView {
            path: path.to_owned(),
        })
    }

    /// Makes sure that the directory is still the one that was opened: where it was
    /// removed, another run could hold a new one beside us.
    pub fn check(&self) -> Result<(), StateDirError> {
        let path = self.path.join(LOCK);
        let held = self
            .lock
            .metadata()
            .map_err(|error| StateDirError::io("look at", &path, error))?;
        match fs::symlink_metadata(&path) {
            Ok(found) if (found.dev(), found.ino()) == (held.dev(), held.ino()) => Ok(()),
            Ok(_) => Err(StateDirError::Lost {
                path: self.path.clone(),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StateDirError::Lost {
                path: self.path.clone(),
            }),
            Err(error) => Err(StateDirError::io("look at", &path, error)),
        }
    }

    /// The directory.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }
    /// Where the mirror of the config repo lies.
    pub fn mirror(&self) -> Utf8PathBuf {
        self.path.join(MIRROR)
    }
    /// Where downloaded releases lie.
    pub fn releases(&self) -> Utf8PathBuf {
        self.path.join(RELEASES)
    }
    /// The store, for writing.
    pub fn store(&self) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(&self.path.join(STORE))
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        // An empty file says that nobody holds it. Where that fails, the name of a
        // dead process stays, and the lock itself is free all the same.
        drop(self.lock.set_len(0));
        // Not left to close(2): a child between fork and exec has the file too.
        _ = flock(&self.lock, FlockOperation::Unlock);
    }
}

/// A state directory that is only looked at.
#[derive(Debug, Clone)]
pub struct StateDirView {
    path: Utf8PathBuf,
}

impl StateDirView {
    /// The store, for reading.
    pub fn store(&self) -> Result<SqliteStore, StoreError> {
        SqliteStore::open_read_only(&self.path.join(STORE))
    }
    /// Where the mirror of the config repo lies.
    pub fn mirror(&self) -> Utf8PathBuf {
        self.path.join(MIRROR)
    }
    /// Who holds the directory: the process that the lock file names, if it lives
    /// on this host. For people; what decides is the lock.
    pub fn holder(&self) -> Option<Holder> {
        let holder = read_name(&self.path.join(LOCK))?;
        let pid = Pid::from_raw(i32::try_from(holder.pid).ok()?)?;
        let lives = match test_kill_process(pid) {
            Ok(()) | Err(rustix::io::Errno::PERM) => true,
            Err(_) => false,
        };
        (holder.host != host_name() || lives).then_some(holder)
    }
}

fn nofollow() -> i32 {
    i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0)
}

fn check_private(path: &Utf8Path) -> Result<(), StateDirError> {
    let found = fs::metadata(path).map_err(|error| StateDirError::io("look at", path, error))?;
    let path = path.to_owned();
    if !found.is_dir() {
        return Err(StateDirError::NotADirectory { path });
    }
    let us = rustix::process::geteuid().as_raw();
    if us != 0 && found.uid() != us {
        let owner = found.uid();
        return Err(StateDirError::Foreign { path, owner, us });
    }
    let mode = found.mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(StateDirError::Open { path, mode });
    }
    Ok(())
}

fn host_name() -> String {
    // Linux' own file for it, as uname(2) would say.
    fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}

fn write_name(lock: &mut File) -> io::Result<()> {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
    lock.set_len(0)?;
    lock.seek(SeekFrom::Start(0))?;
    let text = format!("{}\n{}\n{now}\n", std::process::id(), host_name());
    lock.write_all(text.as_bytes())
}

fn read_name(file: &Utf8Path) -> Option<Holder> {
    let mut text = String::new();
    File::open(file)
        .ok()?
        .take(NAME_BYTES_MAX)
        .read_to_string(&mut text)
        .ok()?;
    // The last line ends in a line feed: without it the name is not whole yet.
    let mut lines = text.strip_suffix('\n')?.lines();
    Some(Holder {
        pid: lines.next()?.parse().ok()?,
        host: lines.next()?.to_owned(),
        since: lines.next()?.to_owned(),
    })
}

fn wait_for_name(file: &Utf8Path) -> Option<Holder> {
    for _ in 0..NAME_TRIES {
        if let Some(holder) = read_name(file) {
            return Some(holder);
        }
        thread::sleep(NAME_WAIT);
    }
    None
}

#[cfg(test)]
mod tests;
