//! The tables, and how an older file becomes a newer one.

use rusqlite::{Connection, Transaction};

/// One step from a version to the next; never changed once released.
const MIGRATIONS: &[&str] = &[FIRST];

/// The version that this trueup writes.
pub(super) fn version() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

const FIRST: &str = "
CREATE TABLE counter (only INTEGER PRIMARY KEY CHECK (only = 1), number INTEGER NOT NULL);
INSERT INTO counter VALUES (1, 0);

CREATE TABLE journal (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    step TEXT NOT NULL, unit TEXT NOT NULL, verb TEXT NOT NULL, target TEXT NOT NULL,
    subject TEXT NOT NULL, commit_id TEXT NOT NULL, job TEXT,
    started_s INTEGER NOT NULL,
    outcome TEXT, detail TEXT, finished_s INTEGER
) STRICT;
CREATE INDEX journal_open ON journal (row) WHERE outcome IS NULL;
CREATE INDEX journal_unit ON journal (unit, row);

CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    commit_id TEXT NOT NULL, context TEXT NOT NULL, state TEXT NOT NULL,
    description TEXT NOT NULL, decided_s INTEGER NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    -- NULL: owed; else when it was sent, given up or overtaken
    closed_s INTEGER, closed_why TEXT
) STRICT;
CREATE INDEX outbox_owed ON outbox (seq) WHERE closed_s IS NULL;
CREATE INDEX outbox_context ON outbox (commit_id, context, seq);

CREATE TABLE baseline (
    cluster TEXT NOT NULL, object TEXT NOT NULL, rendered TEXT NOT NULL,
    json TEXT NOT NULL, rebuilt INTEGER NOT NULL,
    PRIMARY KEY (cluster, object)
) STRICT, WITHOUT ROWID;

CREATE TABLE grant_of (
    id TEXT PRIMARY KEY, unit TEXT NOT NULL, json TEXT NOT NULL, author TEXT NOT NULL,
    reason TEXT NOT NULL, granted_s INTEGER NOT NULL, expires_s INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE pause (
    target TEXT PRIMARY KEY, reason TEXT NOT NULL, author TEXT NOT NULL,
    since_s INTEGER NOT NULL, until_s INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE settled (
    unit TEXT PRIMARY KEY, commit_id TEXT NOT NULL, desired TEXT NOT NULL, at_s INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE epoch (unit TEXT PRIMARY KEY, epoch INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE value (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
";

/// The version of a file; 0 is a new one.
pub(super) fn found(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Brings a file from `found` to [`version`], all or nothing.
pub(super) fn migrate(transaction: &Transaction<'_>, found: i64) -> rusqlite::Result<()> {
    let done = usize::try_from(found).unwrap_or(0);
    for step in MIGRATIONS.iter().skip(done) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", version())
}
