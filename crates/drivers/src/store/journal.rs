//! Rows of the journal.

use rusqlite::{Connection, Result, Row, params};
use trueup_model::port::store::{JournalEnd, JournalEntry, JournalRow};

/// So many ended steps are kept: some years of a fleet of 500, 30 MB.
const KEPT_ROWS: i64 = 100_000;
/// Old rows go in batches, not one at each step.
const SWEEP_EVERY: i64 = 1000;

const COLUMNS: &str = "row, step, unit, verb, target, subject, commit_id, job, started_s, \
                       outcome, detail, finished_s";

pub(super) fn started(db: &Connection, entry: &JournalEntry, now_s: i64) -> Result<i64> {
    db.prepare_cached(
        "INSERT INTO journal (step, unit, verb, target, subject, commit_id, job, started_s)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        entry.step,
        entry.unit,
        entry.verb,
        entry.target,
        entry.subject,
        entry.commit,
        entry.job,
        now_s
    ])?;
    let row = db.last_insert_rowid();
    if row % SWEEP_EVERY == 0 {
        db.execute(
            "DELETE FROM journal WHERE row <= ? AND outcome IS NOT NULL",
            [row.saturating_sub(KEPT_ROWS)],
        )?;
    }
    Ok(row)
}

pub(super) fn ended(
    db: &Connection,
    row: i64,
    outcome: &str,
    detail: &str,
    now_s: i64,
) -> Result<()> {
    db.prepare_cached("UPDATE journal SET outcome = ?, detail = ?, finished_s = ? WHERE row = ?")?
        .execute(params![outcome, detail, now_s, row])
        .map(drop)
}

pub(super) fn unfinished(db: &Connection) -> Result<Vec<JournalRow>> {
    db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM journal WHERE outcome IS NULL ORDER BY row"
    ))?
    .query_map([], read)?
    .collect()
}

pub(super) fn history(db: &Connection, unit: Option<&str>, limit: u32) -> Result<Vec<JournalRow>> {
    db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM journal WHERE ?1 IS NULL OR unit = ?1 ORDER BY row DESC LIMIT ?2"
    ))?
    .query_map(params![unit, limit], read)?
    .collect()
}

fn read(row: &Row<'_>) -> Result<JournalRow> {
    let outcome: Option<String> = row.get(9)?;
    let end = match outcome {
        None => None,
        Some(outcome) => Some(JournalEnd {
            outcome,
            detail: row.get(10)?,
            finished_s: row.get(11)?,
        }),
    };
    Ok(JournalRow {
        row: row.get(0)?,
        entry: JournalEntry {
            step: row.get(1)?,
            unit: row.get(2)?,
            verb: row.get(3)?,
            target: row.get(4)?,
            subject: row.get(5)?,
            commit: row.get(6)?,
            job: row.get(7)?,
        },
        started_s: row.get(8)?,
        end,
    })
}
