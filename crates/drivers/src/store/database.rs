//! The database file: opened, checked, migrated; and the port on top of it.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use trueup_model::id::CommitId;
use trueup_model::port::StoreError;
use trueup_model::port::store::{
    Grant, JournalEntry, JournalRow, Owed, Pause, Recorded, Settled, Store,
};
use trueup_model::verdict::Verdict;

use super::error::told;
use super::{baselines, grants, journal, outbox, records, schema};

/// How long a write waits for another process, like a `status` beside the loop.
const BUSY_LIMIT: Duration = Duration::from_secs(5);

/// The name of the file in the state directory.
const FILE: &str = "trueup.db";

/// The store in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    path: Utf8PathBuf,
    connection: Mutex<Connection>,
}

impl SqliteStore {
    /// Opens the store of a state directory, making both where they are missing:
    /// the directory 0700, the file 0600.
    pub fn open(state_dir: &Utf8Path) -> Result<Self, StoreError> {
        let path = state_dir.join(FILE);
        let cannot = |why: String| StoreError::Open {
            path: path.to_string(),
            why,
        };
        make_private(state_dir).map_err(cannot)?;
        // SQLite gives its WAL the mode of this file.
        drop(
            OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(&path)
                .map_err(|error| file_error(&path, &error))?,
        );
        let connection = Self::connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let store = Self {
            path,
            connection: Mutex::new(connection),
        };
        store.prepare()?;
        Ok(store)
    }

    fn connect(path: &Utf8Path, how: OpenFlags) -> Result<Connection, StoreError> {
        let failed = |error: &rusqlite::Error| told(path.as_str(), "open", error);
        let flags = how | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let connection =
            Connection::open_with_flags(path, flags).map_err(|error| failed(&error))?;
        connection
            .busy_timeout(BUSY_LIMIT)
            .map_err(|error| failed(&error))?;
        Ok(connection)
    }

    fn prepare(&self) -> Result<(), StoreError> {
        let mut connection = self.lock();
        let failed = |error: rusqlite::Error| told(self.path.as_str(), "open", &error);
        connection
            .pragma_update(None, "journal_mode", "WAL")
            .map_err(failed)?;
        // A word that is out must not be forgotten: fsync at each commit.
        connection
            .pragma_update(None, "synchronous", "FULL")
            .map_err(failed)?;
        let health: String = connection
            .pragma_query_value(None, "quick_check", |row| row.get(0))
            .map_err(failed)?;
        if health != "ok" {
            return Err(StoreError::Corrupt {
                path: self.path.to_string(),
                why: health,
            });
        }
        // Two processes may open a new store at once: look under the write lock.
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        let found = schema::found(&transaction).map_err(failed)?;
        if found > schema::version() {
            return Err(StoreError::Newer {
                path: self.path.to_string(),
                found,
                known: schema::version(),
            });
        }
        if found < schema::version() {
            schema::migrate(&transaction, found).map_err(failed)?;
        }
        transaction.commit().map_err(failed)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one short piece of work in a transaction: all of it or nothing.
    fn with<T>(
        &self,
        what: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let mut connection = self.lock();
        let run = || {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        run().map_err(|error| told(self.path.as_str(), what, &error))
    }

    #[cfg(test)]
    pub(super) fn pragma(&self, text: &str) {
        let batch = format!("PRAGMA {text};");
        self.lock().execute_batch(&batch).unwrap();
    }

    /// Reads without taking the write lock.
    fn read<T>(
        &self,
        what: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        work(&self.lock()).map_err(|error| told(self.path.as_str(), what, &error))
    }
}

/// A directory of ours; one that others may write to is refused.
fn make_private(dir: &Utf8Path) -> Result<(), String> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| error.to_string())?;
    let mode = std::fs::metadata(dir)
        .map_err(|error| error.to_string())?
        .permissions()
        .mode();
    if mode & 0o022 == 0 {
        Ok(())
    } else {
        Err(format!(
            "others may write to {dir} (mode {:04o}); run: chmod 700 {dir}",
            mode & 0o7777
        ))
    }
}

fn file_error(path: &Utf8Path, error: &std::io::Error) -> StoreError {
    use std::io::ErrorKind;
    let path = path.to_string();
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full { path },
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
            StoreError::ReadOnly { path }
        }
        _ => StoreError::Open {
            path,
            why: error.to_string(),
        },
    }
}

impl Store for SqliteStore {
    fn next_number(&self) -> Result<u64, StoreError> {
        self.with("count", records::next_number)
    }

    fn step_started(&self, entry: &JournalEntry) -> Result<i64, StoreError> {
        self.with("begin a step", |db| journal::started(db, entry, now_s()))
    }
    fn step_ended(&self, row: i64, outcome: &str, detail: &str) -> Result<(), StoreError> {
        self.with("end a step", |db| {
            journal::ended(db, row, outcome, detail, now_s())
        })
    }
    fn unfinished(&self) -> Result<Vec<JournalRow>, StoreError> {
        self.read("read the journal", journal::unfinished)
    }
    fn history(&self, unit: Option<&str>, limit: u32) -> Result<Vec<JournalRow>, StoreError> {
        self.read("read the journal", |db| journal::history(db, unit, limit))
    }

    fn decide(&self, verdict: &Verdict) -> Result<bool, StoreError> {
        self.with("decide", |db| outbox::decide(db, verdict, now_s()))
    }
    fn owed(&self, limit: u32) -> Result<Vec<Owed>, StoreError> {
        self.read("read the outbox", |db| outbox::owed(db, limit))
    }
    fn sending(&self, seq: i64) -> Result<(), StoreError> {
        self.with("mark a verdict", |db| outbox::sending(db, seq))
    }
    fn sent(&self, seq: i64) -> Result<(), StoreError> {
        self.with("mark a verdict", |db| {
            outbox::close(db, seq, "sent", now_s())
        })
    }
    fn dropped(&self, seq: i64, why: &str) -> Result<(), StoreError> {
        self.with("mark a verdict", |db| outbox::close(db, seq, why, now_s()))
    }
    fn decided(&self, commit: &CommitId, context: &str) -> Result<Option<Verdict>, StoreError> {
        self.read("read the outbox", |db| outbox::last(db, commit, context))
    }
    fn undecided(&self) -> Result<Vec<Verdict>, StoreError> {
        self.read("read the outbox", outbox::undecided)
    }

    fn baselines(&self, cluster: &str) -> Result<BTreeMap<String, Recorded>, StoreError> {
        self.read("read baselines", |db| baselines::all(db, cluster))
    }
    fn put_baselines(&self, recorded: &[(String, String, Recorded)]) -> Result<(), StoreError> {
        baselines::check(recorded)?;
        self.with("record baselines", |db| baselines::put(db, recorded))
    }
    fn remove_baseline(&self, cluster: &str, object: &str) -> Result<(), StoreError> {
        self.with("forget a baseline", |db| {
            baselines::remove(db, cluster, object)
        })
    }

    fn put_grant(&self, grant: &Grant) -> Result<(), StoreError> {
        records::check("the grant", &grant.json)?;
        self.with("record a grant", |db| grants::put(db, grant))
    }
    fn grants(&self, now_s: i64) -> Result<Vec<Grant>, StoreError> {
        self.read("read grants", |db| grants::all(db, now_s))
    }
    fn remove_grant(&self, id: &str) -> Result<bool, StoreError> {
        self.with("forget a grant", |db| grants::remove(db, id))
    }
    fn put_pause(&self, pause: &Pause) -> Result<(), StoreError> {
        self.with("record a pause", |db| grants::put_pause(db, pause))
    }
    fn pauses(&self, now_s: i64) -> Result<Vec<Pause>, StoreError> {
        self.read("read pauses", |db| grants::pauses(db, now_s))
    }
    fn remove_pause(&self, target: &str) -> Result<bool, StoreError> {
        self.with("end a pause", |db| grants::remove_pause(db, target))
    }

    fn settled(&self, unit: &str) -> Result<Option<Settled>, StoreError> {
        self.read("read what is settled", |db| records::settled(db, unit))
    }
    fn put_settled(&self, unit: &str, settled: &Settled) -> Result<(), StoreError> {
        self.with("record what is settled", |db| {
            records::put_settled(db, unit, settled)
        })
    }
    fn epoch(&self, unit: &str) -> Result<Option<u64>, StoreError> {
        self.read("read an epoch", |db| records::epoch(db, unit))
    }
    fn put_epoch(&self, unit: &str, epoch: u64) -> Result<(), StoreError> {
        self.with("record an epoch", |db| records::put_epoch(db, unit, epoch))
    }
    fn value(&self, name: &str) -> Result<Option<String>, StoreError> {
        self.read("read a value", |db| records::value(db, name))
    }
    fn put_value(&self, name: &str, value: &str) -> Result<(), StoreError> {
        records::check(name, value)?;
        self.with("keep a value", |db| records::put_value(db, name, value))
    }
}

fn now_s() -> i64 {
    jiff::Timestamp::now().as_second()
}
