//! The outbox: verdicts between their decision and the forge.
//!
//! Each destination has its own deliveries.
//! Order holds per destination, commit and context: a verdict is offered only when no earlier
//! one of the two waits. An attempt is recorded before the verdict is handed out,
//! so that after a crash it is known that it may have arrived.

use rusqlite::{Connection, OptionalExtension, Result, Row, params};
use trueup_model::id::CommitId;
use trueup_model::port::store::{DeliveryRecord, DeliveryState, Outgoing, Owed, VerdictRecord};
use trueup_model::verdict::{Verdict, VerdictState};

use super::failure::{OddWord, odd_column};
use super::journal::cut_why;
use super::units::commit_at;

const COLUMNS: &str = "SELECT v.seq, v.commit_id, v.context, v.state, v.description, v.decided_s";

/// `?1` is the destination.
const HEAD: &str = "d.destination = ?1 AND d.state = 'queued' AND NOT EXISTS (
    SELECT 1 FROM verdict w JOIN delivery e ON e.seq = w.seq AND e.destination = ?1
    WHERE w.commit_id = v.commit_id AND w.context = v.context AND w.seq < v.seq
      AND e.state = 'queued')";

fn state(word: &str) -> Result<VerdictState, OddWord> {
    [
        VerdictState::Pending,
        VerdictState::Success,
        VerdictState::Failure,
        VerdictState::Error,
    ]
    .into_iter()
    .find(|state| state.as_str() == word)
    .ok_or_else(|| OddWord(word.to_owned()))
}

fn delivery(word: &str) -> Result<DeliveryState, OddWord> {
    match word {
        "queued" => Ok(DeliveryState::Queued),
        "sent" => Ok(DeliveryState::Sent),
        "refused" => Ok(DeliveryState::Refused),
        "passedOver" => Ok(DeliveryState::PassedOver),
        other => Err(OddWord(other.to_owned())),
    }
}

fn verdict(row: &Row<'_>) -> Result<Verdict> {
    let word: String = row.get(3)?;
    Ok(Verdict {
        commit: commit_at(row, 1)?,
        context: row.get(2)?,
        state: state(&word).map_err(|error| odd_column(3, error))?,
        description: row.get(4)?,
    })
}

/// The record of a row of [`COLUMNS`], still without its deliveries.
fn record(row: &Row<'_>) -> Result<VerdictRecord> {
    Ok(VerdictRecord {
        seq: row.get(0)?,
        verdict: verdict(row)?,
        decided_s: row.get(5)?,
        deliveries: Vec::new(),
    })
}

fn with_deliveries(db: &Connection, mut record: VerdictRecord) -> Result<VerdictRecord> {
    record.deliveries = db
        .prepare_cached(
            "SELECT destination, state, attempts, why FROM delivery WHERE seq = ?1
             ORDER BY destination",
        )?
        .query_map([record.seq], |row| {
            let word: String = row.get(1)?;
            Ok(DeliveryRecord {
                destination: row.get(0)?,
                state: delivery(&word).map_err(|error| odd_column(1, error))?,
                attempts: row.get(2)?,
                why: row.get(3)?,
            })
        })?
        .collect::<Result<_>>()?;
    Ok(record)
}

pub(super) fn set_destinations(db: &Connection, names: &[String], at_s: u64) -> Result<()> {
    let known: Vec<String> = db
        .prepare_cached("SELECT name FROM destination")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_>>()?;
    for gone in known.iter().filter(|name| !names.contains(name)) {
        db.execute(
            "UPDATE delivery SET state = 'passedOver', done_s = ?2
             WHERE destination = ?1 AND state = 'queued'",
            params![gone, at_s],
        )?;
        db.execute("DELETE FROM destination WHERE name = ?1", [gone])?;
    }
    for new in names.iter().filter(|name| !known.contains(name)) {
        db.execute("INSERT INTO destination (name) VALUES (?1)", [new])?;
        // Again, where it was a destination once: it may have been told otherwise since.
        db.execute(
            "INSERT OR REPLACE INTO delivery (destination, seq, state, attempts)
             SELECT ?1, max(v.seq), 'queued',
               coalesce(max((SELECT attempts FROM delivery d
                             WHERE d.destination = ?1 AND d.seq = v.seq)), 0)
             FROM verdict v
             WHERE v.commit_id = (SELECT commit_id FROM verdict ORDER BY seq DESC LIMIT 1)
             GROUP BY v.context",
            [new],
        )?;
    }
    Ok(())
}

pub(super) fn decide(db: &Connection, verdict: &Verdict, at_s: u64) -> Result<bool> {
    let before = newest_of(db, &verdict.commit, &verdict.context)?;
    if before.is_some_and(|before| before.verdict == *verdict) {
        return Ok(false);
    }
    db.execute(
        "UPDATE delivery SET state = 'passedOver', done_s = ?3
         WHERE state = 'queued' AND seq IN (SELECT seq FROM verdict
           WHERE commit_id = ?1 AND context = ?2 AND state = 'pending')",
        params![verdict.commit.as_str(), verdict.context, at_s],
    )?;
    db.execute(
        "INSERT INTO verdict (commit_id, context, state, description, decided_s)
         VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            verdict.commit.as_str(),
            verdict.context,
            verdict.state.as_str(),
            verdict.description,
            at_s
        ],
    )?;
    db.execute(
        "INSERT INTO delivery (destination, seq, state)
         SELECT name, ?1, 'queued' FROM destination",
        [db.last_insert_rowid()],
    )?;
    Ok(true)
}

pub(super) fn is_due(db: &Connection, destination: &str, now_s: u64) -> Result<bool> {
    db.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM delivery
           WHERE destination = ?1 AND state = 'queued' AND due_s <= ?2)",
    )?
    .query_row(params![destination, now_s], |row| row.get(0))
}

pub(super) fn next(db: &Connection, destination: &str, now_s: u64) -> Result<Option<Outgoing>> {
    let found = db
        .prepare_cached(&format!(
            "{COLUMNS}, d.attempts FROM delivery d JOIN verdict v ON v.seq = d.seq
             WHERE {HEAD} AND d.due_s <= ?2 ORDER BY d.seq LIMIT 1"
        ))?
        .query_row(params![destination, now_s], |row| {
            Ok(Outgoing {
                seq: row.get(0)?,
                verdict: verdict(row)?,
                decided_s: row.get(5)?,
                attempts: row.get(6)?,
            })
        })
        .optional()?;
    if let Some(found) = &found {
        db.execute(
            "UPDATE delivery SET attempts = attempts + 1
             WHERE destination = ?1 AND seq = ?2",
            params![destination, found.seq],
        )?;
    }
    Ok(found)
}

pub(super) fn next_due_s(db: &Connection, destination: &str) -> Result<Option<u64>> {
    db.query_row(
        &format!(
            "SELECT min(d.due_s) FROM delivery d JOIN verdict v ON v.seq = d.seq WHERE {HEAD}"
        ),
        [destination],
        |row| row.get(0),
    )
}

pub(super) fn owed(db: &Connection) -> Result<Vec<Owed>> {
    db.prepare_cached(
        "SELECT t.name,
           (SELECT count(*) FROM delivery d WHERE d.destination = t.name AND d.state = 'queued'),
           coalesce(nullif(t.why, ''), (SELECT d.why FROM delivery d
             WHERE d.destination = t.name AND d.state = 'queued' AND d.why <> ''
             ORDER BY d.seq LIMIT 1), ''),
           count(r.seq), coalesce(max(r.why), '')
         FROM destination t LEFT JOIN delivery r ON r.destination = t.name
           AND r.state = 'refused' AND r.seq IN (
             SELECT max(v.seq) FROM verdict v
             WHERE v.commit_id = (SELECT commit_id FROM verdict ORDER BY seq DESC LIMIT 1)
             GROUP BY v.context)
         GROUP BY t.name ORDER BY t.name",
    )?
    .query_map([], |row| {
        Ok(Owed {
            destination: row.get(0)?,
            waiting: row.get(1)?,
            why: row.get(2)?,
            refused: row.get(3)?,
            refused_why: row.get(4)?,
        })
    })?
    .collect()
}

/// One that was passed over while its delivery was under way stays passed over.
pub(super) fn sent(db: &Connection, destination: &str, seq: i64, at_s: u64) -> Result<()> {
    db.execute(
        "UPDATE delivery SET state = 'sent', why = '', done_s = ?3
         WHERE destination = ?1 AND seq = ?2 AND state = 'queued'",
        params![destination, seq, at_s],
    )?;
    db.execute(
        "UPDATE destination SET why = '' WHERE name = ?1 AND why <> ''",
        [destination],
    )?;
    Ok(())
}

pub(super) fn failed(
    db: &Connection,
    destination: &str,
    seq: i64,
    why: &str,
    retry_at_s: u64,
) -> Result<()> {
    db.execute(
        "UPDATE delivery SET why = ?3, due_s = ?4
         WHERE destination = ?1 AND seq = ?2 AND state = 'queued'",
        params![destination, seq, cut_why(why), retry_at_s],
    )?;
    // Also of a word that was passed over meanwhile: those behind it wait for the same.
    db.execute(
        "UPDATE destination SET why = ?2 WHERE name = ?1",
        params![destination, cut_why(why)],
    )?;
    Ok(())
}

pub(super) fn refused(
    db: &Connection,
    destination: &str,
    seq: i64,
    why: &str,
    at_s: u64,
) -> Result<()> {
    db.execute(
        "UPDATE delivery SET state = 'refused', why = ?3, done_s = ?4
         WHERE destination = ?1 AND seq = ?2 AND state = 'queued'",
        params![destination, seq, cut_why(why), at_s],
    )?;
    Ok(())
}

fn newest_of(db: &Connection, commit: &CommitId, context: &str) -> Result<Option<VerdictRecord>> {
    db.prepare_cached(&format!(
        "{COLUMNS} FROM verdict v WHERE commit_id = ?1 AND context = ?2 ORDER BY seq DESC LIMIT 1"
    ))?
    .query_row([commit.as_str(), context], record)
    .optional()
}

pub(super) fn newest(
    db: &Connection,
    commit: &CommitId,
    context: &str,
) -> Result<Option<VerdictRecord>> {
    newest_of(db, commit, context)?
        .map(|record| with_deliveries(db, record))
        .transpose()
}

pub(super) fn of(db: &Connection, commit: &CommitId) -> Result<Vec<VerdictRecord>> {
    let records: Vec<VerdictRecord> = db
        .prepare_cached(&format!(
            "{COLUMNS} FROM verdict v WHERE commit_id = ?1 AND seq =
               (SELECT max(seq) FROM verdict n
                WHERE n.commit_id = v.commit_id AND n.context = v.context)
             ORDER BY context"
        ))?
        .query_map([commit.as_str()], record)?
        .collect::<Result<_>>()?;
    records
        .into_iter()
        .map(|record| with_deliveries(db, record))
        .collect()
}
