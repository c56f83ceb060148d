//! The store on SQLite: one connection, one file, every commit on the disk.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use trueup_model::id::{ClusterName, CommitId, FleetName, UnitId};
use trueup_model::port::store::{
    CommitSeen, Grant, JournalEntry, JournalRecord, Outgoing, Owed, Pause, Recorded, Settled,
    VerdictRecord,
};
use trueup_model::port::{Store, StoreError};
use trueup_model::step::Outcome;
use trueup_model::verdict::Verdict;

use super::failure::{check_size, store_error};
use super::{baselines, grants, journal, outbox, schema, units};

/// Nobody else writes while the state directory is locked; a reader's checkpoint
/// or a backup tool may hold the file for a moment.
const BUSY_WAIT: Duration = Duration::from_secs(5);

/// The write-ahead log is cut back to this size after a checkpoint.
const WAL_BYTES_MAX: i64 = 16 * 1024 * 1024;

/// The store in a SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    path: Utf8PathBuf,
    db: Mutex<Connection>,
}

impl SqliteStore {
    /// Opens the file for writing; makes it (0600) where it is missing.
    ///
    /// Writing to one file through two stores is safe, but the state directory's
    /// lock is what keeps two loops apart.
    pub fn open(path: &Utf8Path) -> Result<Self, StoreError> {
        create_private(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut db = connect(path, flags)?;
        let failed = |error: rusqlite::Error| store_error("open", path.as_str(), &error);
        let mode: String = db
            .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
            .map_err(failed)?;
        if mode != "wal" {
            return Err(StoreError::Unavailable {
                what: "open",
                path: path.to_string(),
                why: format!("its file system has no write-ahead log (journal mode {mode})"),
            });
        }
        // FULL: a commit is on the disk when it returns, also in WAL mode.
        db.pragma_update(None, "synchronous", "FULL")
            .map_err(failed)?;
        db.pragma_update(None, "journal_size_limit", WAL_BYTES_MAX)
            .map_err(failed)?;
        inspect(&db, path)?;
        schema::migrate(&mut db, path.as_str())?;
        Ok(Self::of(path, db))
    }

    /// Opens the file for reading only, beside a process that writes or after it.
    pub fn open_read_only(path: &Utf8Path) -> Result<Self, StoreError> {
        if !path.exists() {
            return Err(StoreError::Missing {
                path: path.to_string(),
            });
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = connect(path, flags)?;
        schema::check(&db, path.as_str())?;
        Ok(Self::of(path, db))
    }

    fn of(path: &Utf8Path, db: Connection) -> Self {
        Self {
            path: path.to_owned(),
            db: Mutex::new(db),
        }
    }

    /// Makes the file full soon: for tests of a full disk.
    #[cfg(test)]
    pub(super) fn limit_pages(&self, pages: u32) {
        self.lock()
            .query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
            .unwrap();
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic between two statements leaves a transaction that its guard has
        // rolled back: the connection is as good as before.
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(
        &self,
        what: &'static str,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        query(&self.lock()).map_err(|error| store_error(what, self.path.as_str(), &error))
    }

    fn write<T>(
        &self,
        what: &'static str,
        change: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let mut db = self.lock();
        let run = || {
            let write = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = change(&write)?;
            write.commit()?;
            Ok(value)
        };
        run().map_err(|error| store_error(what, self.path.as_str(), &error))
    }
}

/// SQLite would make the file with the umask's permissions; its WAL and shared
/// memory files take over those of the database.
fn create_private(path: &Utf8Path) -> Result<(), StoreError> {
    let made = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path);
    let (what, name) = ("open", path.to_string());
    match made.map_err(|error| (error.kind(), error)) {
        Ok(_) => Ok(()),
        Err((io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded, _)) => {
            Err(StoreError::Full { what, path: name })
        }
        Err((io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied, _)) => {
            Err(StoreError::ReadOnly { what, path: name })
        }
        Err((_, error)) => Err(StoreError::Unavailable {
            what,
            path: name,
            why: error.to_string(),
        }),
    }
}

fn connect(path: &Utf8Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let failed = |error: rusqlite::Error| store_error("open", path.as_str(), &error);
    let db = Connection::open_with_flags(path.as_std_path(), flags).map_err(failed)?;
    db.busy_timeout(BUSY_WAIT).map_err(failed)?;
    db.pragma_update(None, "trusted_schema", false)
        .map_err(failed)?;
    Ok(db)
}

/// A damaged file is found at the start, not in the middle of a rollout.
fn inspect(db: &Connection, path: &Utf8Path) -> Result<(), StoreError> {
    let found: String = db
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| store_error("open", path.as_str(), &error))?;
    if found == "ok" {
        return Ok(());
    }
    Err(StoreError::Corrupt {
        what: "open",
        path: path.to_string(),
        why: found,
    })
}

impl Store for SqliteStore {
    fn next_number(&self) -> Result<u64, StoreError> {
        self.write("next number", units::next_number)
    }
    fn get(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.read("get", |db| units::get(db, key))
    }
    fn put(&self, key: &str, value: &str) -> Result<(), StoreError> {
        check_size("put", value)?;
        self.write("put", |db| units::put(db, key, value))
    }
    fn list(&self, prefix: &str) -> Result<Vec<(String, String)>, StoreError> {
        self.read("list", |db| units::list(db, prefix))
    }
    fn remove(&self, key: &str) -> Result<bool, StoreError> {
        self.write("remove", |db| units::remove(db, key))
    }
    fn epoch(&self, unit: &UnitId) -> Result<Option<u64>, StoreError> {
        self.read("epoch", |db| units::epoch(db, unit))
    }
    fn set_epoch(&self, unit: &UnitId, epoch: u64) -> Result<u64, StoreError> {
        self.write("set epoch", |db| units::set_epoch(db, unit, epoch))
    }
    fn settled(&self, unit: &UnitId) -> Result<Option<Settled>, StoreError> {
        self.read("settled", |db| units::settled(db, unit))
    }
    fn set_settled(&self, unit: &UnitId, settled: &Settled) -> Result<(), StoreError> {
        self.write("set settled", |db| units::set_settled(db, unit, settled))
    }
    fn baseline(
        &self,
        cluster: &ClusterName,
        object: &str,
    ) -> Result<Option<Recorded>, StoreError> {
        self.read("baseline", |db| baselines::one(db, cluster, object))
    }
    fn baselines(&self, cluster: &ClusterName) -> Result<Vec<(String, Recorded)>, StoreError> {
        self.read("baselines", |db| baselines::all(db, cluster))
    }
    fn put_baselines(&self, records: &[(ClusterName, String, Recorded)]) -> Result<(), StoreError> {
        for (_, _, recorded) in records {
            check_size("put baselines", &recorded.baseline)?;
        }
        self.write("put baselines", |db| baselines::put(db, records))
    }
    fn remove_baseline(&self, cluster: &ClusterName, object: &str) -> Result<bool, StoreError> {
        self.write("remove baseline", |db| {
            baselines::remove(db, cluster, object)
        })
    }
    fn step_started(&self, entry: &JournalEntry, at_s: u64) -> Result<i64, StoreError> {
        check_size("step started", &entry.subject)?;
        self.write("step started", |db| journal::started(db, entry, at_s))
    }
    fn step_ended(&self, row: i64, outcome: &Outcome, at_s: u64) -> Result<(), StoreError> {
        self.write("step ended", |db| journal::ended(db, row, outcome, at_s))
    }
    fn unfinished(&self) -> Result<Vec<JournalRecord>, StoreError> {
        self.read("unfinished steps", journal::unfinished)
    }
    fn abandon_unfinished(&self, why: &str, at_s: u64) -> Result<usize, StoreError> {
        self.write("abandon steps", |db| journal::abandon(db, why, at_s))
    }
    fn history(&self, limit: u32) -> Result<Vec<JournalRecord>, StoreError> {
        self.read("history", |db| journal::history(db, limit))
    }
    fn decide(&self, verdict: &Verdict, at_s: u64) -> Result<bool, StoreError> {
        self.write("decide a verdict", |db| outbox::decide(db, verdict, at_s))
    }
    fn set_destinations(&self, names: &[String], at_s: u64) -> Result<(), StoreError> {
        self.write("set destinations", |db| {
            outbox::set_destinations(db, names, at_s)
        })
    }
    fn next_unsent(&self, destination: &str, now_s: u64) -> Result<Option<Outgoing>, StoreError> {
        // Asked often, and most often there is nothing: no write then.
        if !self.read("next verdict", |db| outbox::is_due(db, destination, now_s))? {
            return Ok(None);
        }
        self.write("next verdict", |db| outbox::next(db, destination, now_s))
    }
    fn next_due_s(&self, destination: &str) -> Result<Option<u64>, StoreError> {
        self.read("next verdict", |db| outbox::next_due_s(db, destination))
    }
    fn owed(&self) -> Result<Vec<Owed>, StoreError> {
        self.read("count verdicts", outbox::owed)
    }
    fn mark_sent(&self, destination: &str, seq: i64, at_s: u64) -> Result<(), StoreError> {
        self.write("verdict sent", |db| {
            outbox::sent(db, destination, seq, at_s)
        })
    }
    fn mark_failed(
        &self,
        destination: &str,
        seq: i64,
        why: &str,
        retry_at_s: u64,
    ) -> Result<(), StoreError> {
        self.write("verdict failed", |db| {
            outbox::failed(db, destination, seq, why, retry_at_s)
        })
    }
    fn mark_refused(
        &self,
        destination: &str,
        seq: i64,
        why: &str,
        at_s: u64,
    ) -> Result<(), StoreError> {
        self.write("verdict refused", |db| {
            outbox::refused(db, destination, seq, why, at_s)
        })
    }
    fn newest(
        &self,
        commit: &CommitId,
        context: &str,
    ) -> Result<Option<VerdictRecord>, StoreError> {
        self.read("newest verdict", |db| outbox::newest(db, commit, context))
    }
    fn verdicts_of(&self, commit: &CommitId) -> Result<Vec<VerdictRecord>, StoreError> {
        self.read("verdicts", |db| outbox::of(db, commit))
    }
    fn grant(&self, grant: &Grant) -> Result<(), StoreError> {
        check_size("grant", &grant.what)?;
        self.write("grant", |db| grants::put(db, grant))
    }
    fn grants(&self, now_s: u64) -> Result<Vec<Grant>, StoreError> {
        self.read("grants", |db| grants::all(db, now_s))
    }
    fn revoke(&self, id: &str) -> Result<bool, StoreError> {
        self.write("revoke", |db| grants::revoke(db, id))
    }
    fn pause(&self, pause: &Pause) -> Result<(), StoreError> {
        self.write("pause", |db| grants::pause(db, pause))
    }
    fn pauses(&self, now_s: u64) -> Result<Vec<Pause>, StoreError> {
        self.read("pauses", |db| grants::pauses(db, now_s))
    }
    fn resume(&self, target: &str) -> Result<bool, StoreError> {
        self.write("resume", |db| grants::resume(db, target))
    }
    fn commit_seen(
        &self,
        fleet: &FleetName,
        commit: &CommitId,
        at_s: u64,
    ) -> Result<bool, StoreError> {
        self.write("commit seen", |db| {
            units::commit_seen(db, fleet, commit, at_s)
        })
    }
    fn last_commit(&self, fleet: &FleetName) -> Result<Option<CommitSeen>, StoreError> {
        let newest = self.read("last commit", |db| units::commits(db, fleet, 1))?;
        Ok(newest.into_iter().next())
    }
    fn commits(&self, fleet: &FleetName, limit: u32) -> Result<Vec<CommitSeen>, StoreError> {
        self.read("commits", |db| units::commits(db, fleet, limit))
    }
}

#[cfg(test)]
mod tests;
