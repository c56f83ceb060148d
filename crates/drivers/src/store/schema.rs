//! The tables, and how a file of an earlier format becomes one of this format.

use rusqlite::{Connection, Transaction, TransactionBehavior};
use trueup_model::port::StoreError;

use super::failure::store_error;

/// One entry per format: what turns the one before into it. Entries are never
/// changed after a release, only added.
const STEPS: &[&str] = &[FORMAT_1, FORMAT_2];

pub(super) const FORMAT_1: &str = "
CREATE TABLE counter (id INTEGER PRIMARY KEY CHECK (id = 1), n INTEGER NOT NULL) STRICT;
INSERT INTO counter VALUES (1, 0);
CREATE TABLE value (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE epoch (unit TEXT PRIMARY KEY, epoch INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE settled (
    unit TEXT PRIMARY KEY, commit_id TEXT NOT NULL, digest TEXT NOT NULL, at_s INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE baseline (
    cluster TEXT NOT NULL, object TEXT NOT NULL, rendered TEXT NOT NULL,
    baseline TEXT NOT NULL, rebuilt INTEGER NOT NULL, PRIMARY KEY (cluster, object)
) STRICT;
CREATE TABLE journal (
    row INTEGER PRIMARY KEY AUTOINCREMENT, step TEXT NOT NULL, unit TEXT NOT NULL,
    verb TEXT NOT NULL, target TEXT NOT NULL, subject TEXT NOT NULL, commit_id TEXT NOT NULL,
    job TEXT, started_s INTEGER NOT NULL, ended_s INTEGER, outcome TEXT, why TEXT
) STRICT;
CREATE INDEX journal_unfinished ON journal (row) WHERE ended_s IS NULL;
CREATE TABLE verdict (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, commit_id TEXT NOT NULL, context TEXT NOT NULL,
    state TEXT NOT NULL, description TEXT NOT NULL, decided_s INTEGER NOT NULL,
    delivery TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
    due_s INTEGER NOT NULL DEFAULT 0, why TEXT NOT NULL DEFAULT '', done_s INTEGER
) STRICT;
CREATE INDEX verdict_of ON verdict (commit_id, context, seq);
CREATE INDEX verdict_queued ON verdict (seq) WHERE delivery = 'queued';
CREATE TABLE granted (
    id TEXT PRIMARY KEY, what TEXT NOT NULL, author TEXT NOT NULL, reason TEXT NOT NULL,
    at_s INTEGER NOT NULL, expires_s INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE pause (
    target TEXT PRIMARY KEY, reason TEXT NOT NULL, author TEXT NOT NULL,
    at_s INTEGER NOT NULL, until_s INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE commit_seen (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, fleet TEXT NOT NULL, commit_id TEXT NOT NULL,
    at_s INTEGER NOT NULL
) STRICT;
CREATE INDEX commit_seen_of ON commit_seen (fleet, seq);
";

/// Deliveries of their own: a verdict goes to several destinations.
const FORMAT_2: &str = "
CREATE TABLE destination (
    name TEXT PRIMARY KEY, why TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;
INSERT INTO destination (name) VALUES ('notes');
CREATE TABLE delivery (
    destination TEXT NOT NULL, seq INTEGER NOT NULL, state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, due_s INTEGER NOT NULL DEFAULT 0,
    why TEXT NOT NULL DEFAULT '', done_s INTEGER,
    PRIMARY KEY (destination, seq)
) STRICT, WITHOUT ROWID;
INSERT INTO delivery (destination, seq, state, attempts, due_s, why, done_s)
    SELECT 'notes', seq, delivery, attempts, due_s, why, done_s FROM verdict;
CREATE INDEX delivery_queued ON delivery (destination, seq) WHERE state = 'queued';
CREATE INDEX delivery_of ON delivery (seq);
DROP INDEX verdict_queued;
ALTER TABLE verdict DROP COLUMN delivery;
ALTER TABLE verdict DROP COLUMN attempts;
ALTER TABLE verdict DROP COLUMN due_s;
ALTER TABLE verdict DROP COLUMN why;
ALTER TABLE verdict DROP COLUMN done_s;
";

/// Rows of history that are kept: enough for years of an ordinary fleet.
const HISTORY_ROWS_MAX: i64 = 100_000;

fn format_of(db: &Connection) -> rusqlite::Result<i64> {
    db.query_row("PRAGMA user_version", [], |row| row.get(0))
}

fn known_format() -> i64 {
    i64::try_from(STEPS.len()).unwrap_or(i64::MAX)
}

/// Brings the file to this format, in one transaction.
pub(super) fn migrate(db: &mut Connection, path: &str) -> Result<(), StoreError> {
    let failed = |error: rusqlite::Error| store_error("open", path, &error);
    let write = db
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failed)?;
    let found = format_of(&write).map_err(failed)?;
    check_known(found, path)?;
    let done = usize::try_from(found).unwrap_or(usize::MAX);
    for step in STEPS.iter().skip(done) {
        write.execute_batch(step).map_err(failed)?;
    }
    // A start on a full disk works as long as nothing has to be written.
    if found != known_format() {
        write
            .pragma_update(None, "user_version", known_format())
            .map_err(failed)?;
    }
    forget_old_history(&write).map_err(failed)?;
    write.commit().map_err(failed)
}

/// For a reader, which may not migrate: the format must be the one known here.
pub(super) fn check(db: &Connection, path: &str) -> Result<(), StoreError> {
    let found = format_of(db).map_err(|error| store_error("open", path, &error))?;
    if found == 0 {
        let path = path.to_owned();
        return Err(StoreError::Missing { path });
    }
    check_known(found, path)
}

fn check_known(found: i64, path: &str) -> Result<(), StoreError> {
    if (0..=known_format()).contains(&found) {
        return Ok(());
    }
    Err(StoreError::Newer {
        path: path.to_owned(),
        found,
        known: known_format(),
    })
}

/// What is not delivered or not ended is never forgotten.
fn forget_old_history(db: &Transaction<'_>) -> rusqlite::Result<()> {
    for sql in [
        "DELETE FROM journal WHERE ended_s IS NOT NULL
           AND row <= (SELECT max(row) FROM journal) - ?1",
        "DELETE FROM verdict WHERE seq <= (SELECT max(seq) FROM verdict) - ?1
           AND NOT EXISTS (SELECT 1 FROM delivery d
             WHERE d.seq = verdict.seq AND d.state = 'queued')",
        "DELETE FROM commit_seen WHERE seq <= (SELECT max(seq) FROM commit_seen) - ?1",
    ] {
        db.execute(sql, [HISTORY_ROWS_MAX])?;
    }
    db.execute(
        "DELETE FROM delivery WHERE NOT EXISTS (SELECT 1 FROM verdict v WHERE v.seq = delivery.seq)",
        [],
    )?;
    Ok(())
}
