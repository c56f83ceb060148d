//! The outbox: verdicts between their decision and the forge.
//!
//! Order holds per commit and context: a verdict is offered only when no earlier
//! one of the two waits. An attempt is recorded before the verdict is handed out,
//! so that after a crash it is known that it may have arrived.

use rusqlite::{Connection, OptionalExtension, Result, Row, params};
use trueup_model::id::CommitId;
use trueup_model::port::store::{DeliveryState, Outgoing, VerdictRecord};
use trueup_model::verdict::{Verdict, VerdictState};

use super::failure::{OddWord, odd_column};
use super::journal::cut_why;
use super::units::commit_at;

const COLUMNS: &str = "SELECT seq, commit_id, context, state, description, decided_s, delivery, \
                       attempts, why FROM verdict v";

const HEAD: &str = "delivery = 'queued' AND NOT EXISTS (
    SELECT 1 FROM verdict e WHERE e.commit_id = v.commit_id AND e.context = v.context
      AND e.delivery = 'queued' AND e.seq < v.seq)";

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

fn record(row: &Row<'_>) -> Result<VerdictRecord> {
    let state_word: String = row.get(3)?;
    let delivery_word: String = row.get(6)?;
    Ok(VerdictRecord {
        seq: row.get(0)?,
        verdict: Verdict {
            commit: commit_at(row, 1)?,
            context: row.get(2)?,
            state: state(&state_word).map_err(|error| odd_column(3, error))?,
            description: row.get(4)?,
        },
        decided_s: row.get(5)?,
        delivery: delivery(&delivery_word).map_err(|error| odd_column(6, error))?,
        attempts: row.get(7)?,
        why: row.get(8)?,
    })
}

pub(super) fn decide(db: &Connection, verdict: &Verdict, at_s: u64) -> Result<bool> {
    if let Some(before) = newest(db, &verdict.commit, &verdict.context)?
        && before.verdict == *verdict
    {
        return Ok(false);
    }
    db.execute(
        "UPDATE verdict SET delivery = 'passedOver', done_s = ?3
         WHERE commit_id = ?1 AND context = ?2 AND delivery = 'queued' AND state = 'pending'",
        params![verdict.commit.as_str(), verdict.context, at_s],
    )?;
    db.execute(
        "INSERT INTO verdict (commit_id, context, state, description, decided_s, delivery)
         VALUES (?1, ?2, ?3, ?4, ?5, 'queued')",
        params![
            verdict.commit.as_str(),
            verdict.context,
            verdict.state.as_str(),
            verdict.description,
            at_s
        ],
    )?;
    Ok(true)
}

pub(super) fn is_due(db: &Connection, now_s: u64) -> Result<bool> {
    db.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM verdict WHERE delivery = 'queued' AND due_s <= ?1)",
    )?
    .query_row([now_s], |row| row.get(0))
}

pub(super) fn next(db: &Connection, now_s: u64) -> Result<Option<Outgoing>> {
    let found = db
        .prepare_cached(&format!(
            "{COLUMNS} WHERE {HEAD} AND due_s <= ?1 ORDER BY seq LIMIT 1"
        ))?
        .query_row([now_s], record)
        .optional()?;
    let Some(found) = found else {
        return Ok(None);
    };
    db.execute(
        "UPDATE verdict SET attempts = attempts + 1 WHERE seq = ?1",
        [found.seq],
    )?;
    Ok(Some(Outgoing {
        seq: found.seq,
        verdict: found.verdict,
        decided_s: found.decided_s,
        attempts: found.attempts,
    }))
}

pub(super) fn next_due_s(db: &Connection) -> Result<Option<u64>> {
    db.query_row(
        &format!("SELECT min(due_s) FROM verdict v WHERE {HEAD}"),
        [],
        |row| row.get(0),
    )
}

pub(super) fn unsent(db: &Connection) -> Result<u64> {
    db.query_row(
        "SELECT count(*) FROM verdict WHERE delivery = 'queued'",
        [],
        |row| row.get(0),
    )
}

/// One that was passed over while its delivery was under way stays passed over.
pub(super) fn sent(db: &Connection, seq: i64, at_s: u64) -> Result<()> {
    db.execute(
        "UPDATE verdict SET delivery = 'sent', why = '', done_s = ?2
         WHERE seq = ?1 AND delivery = 'queued'",
        params![seq, at_s],
    )?;
    Ok(())
}

pub(super) fn failed(db: &Connection, seq: i64, why: &str, retry_at_s: u64) -> Result<()> {
    db.execute(
        "UPDATE verdict SET why = ?2, due_s = ?3 WHERE seq = ?1 AND delivery = 'queued'",
        params![seq, cut_why(why), retry_at_s],
    )?;
    Ok(())
}

pub(super) fn refused(db: &Connection, seq: i64, why: &str, at_s: u64) -> Result<()> {
    db.execute(
        "UPDATE verdict SET delivery = 'refused', why = ?2, done_s = ?3
         WHERE seq = ?1 AND delivery = 'queued'",
        params![seq, cut_why(why), at_s],
    )?;
    Ok(())
}

pub(super) fn newest(
    db: &Connection,
    commit: &CommitId,
    context: &str,
) -> Result<Option<VerdictRecord>> {
    db.prepare_cached(&format!(
        "{COLUMNS} WHERE commit_id = ?1 AND context = ?2 ORDER BY seq DESC LIMIT 1"
    ))?
    .query_row([commit.as_str(), context], record)
    .optional()
}

pub(super) fn of(db: &Connection, commit: &CommitId) -> Result<Vec<VerdictRecord>> {
    db.prepare_cached(&format!(
        "{COLUMNS} WHERE commit_id = ?1 AND seq =
           (SELECT max(seq) FROM verdict n WHERE n.commit_id = v.commit_id AND n.context = v.context)
         ORDER BY context"
    ))?
    .query_map([commit.as_str()], record)?
    .collect()
}
