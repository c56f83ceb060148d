//! Rows of the outbox: verdicts in the order of their decision.

use rusqlite::types::Type;
use rusqlite::{Connection, Error, OptionalExtension as _, Result, Row, params};
use trueup_model::id::CommitId;
use trueup_model::port::store::Owed;
use trueup_model::verdict::{Verdict, VerdictState};

/// So many closed verdicts are kept.
const KEPT_ROWS: i64 = 50_000;
/// Old rows go in batches.
const SWEEP_EVERY: i64 = 1000;

const VERDICT: &str = "commit_id, context, state, description";

pub(super) fn decide(db: &Connection, verdict: &Verdict, now_s: i64) -> Result<bool> {
    if last(db, &verdict.commit, &verdict.context)?.as_ref() == Some(verdict) {
        return Ok(false);
    }
    // Words that are not final and not yet out are overtaken. What is being sent right
    // now may arrive all the same: before this one, since a context has one sender.
    db.prepare_cached(
        "UPDATE outbox SET closed_s = ?, closed_why = 'overtaken'
         WHERE commit_id = ? AND context = ? AND closed_s IS NULL AND state = 'pending'",
    )?
    .execute(params![now_s, verdict.commit.as_str(), verdict.context])?;
    db.prepare_cached(
        "INSERT INTO outbox (commit_id, context, state, description, decided_s)
         VALUES (?, ?, ?, ?, ?)",
    )?
    .execute(params![
        verdict.commit.as_str(),
        verdict.context,
        verdict.state.as_str(),
        verdict.description,
        now_s
    ])?;
    let seq = db.last_insert_rowid();
    if seq % SWEEP_EVERY == 0 {
        db.execute(
            "DELETE FROM outbox WHERE seq <= ? AND closed_s IS NOT NULL",
            [seq.saturating_sub(KEPT_ROWS)],
        )?;
    }
    Ok(true)
}

pub(super) fn owed(db: &Connection, limit: u32) -> Result<Vec<Owed>> {
    db.prepare_cached(&format!(
        "SELECT {VERDICT}, seq, decided_s, tries FROM outbox
         WHERE seq IN (SELECT min(seq) FROM outbox WHERE closed_s IS NULL GROUP BY commit_id, context)
         ORDER BY seq LIMIT ?"
    ))?
    .query_map([limit], |row| {
        Ok(Owed {
            verdict: read(row)?,
            seq: row.get(4)?,
            decided_s: row.get(5)?,
            tries: row.get(6)?,
        })
    })?
    .collect()
}

pub(super) fn sending(db: &Connection, seq: i64) -> Result<()> {
    db.prepare_cached("UPDATE outbox SET tries = tries + 1 WHERE seq = ?")?
        .execute([seq])
        .map(drop)
}

pub(super) fn close(db: &Connection, seq: i64, why: &str, now_s: i64) -> Result<()> {
    db.prepare_cached("UPDATE outbox SET closed_s = ?, closed_why = ? WHERE seq = ?")?
        .execute(params![now_s, why, seq])
        .map(drop)
}

pub(super) fn last(db: &Connection, commit: &CommitId, context: &str) -> Result<Option<Verdict>> {
    db.prepare_cached(&format!(
        "SELECT {VERDICT} FROM outbox WHERE commit_id = ? AND context = ? ORDER BY seq DESC LIMIT 1"
    ))?
    .query_row(params![commit.as_str(), context], read)
    .optional()
}

pub(super) fn undecided(db: &Connection) -> Result<Vec<Verdict>> {
    db.prepare_cached(&format!(
        "SELECT {VERDICT} FROM outbox
         WHERE seq IN (SELECT max(seq) FROM outbox GROUP BY commit_id, context) AND state = 'pending'
         ORDER BY seq"
    ))?
    .query_map([], read)?
    .collect()
}

fn read(row: &Row<'_>) -> Result<Verdict> {
    let commit: String = row.get(0)?;
    let state: String = row.get(2)?;
    let state = [
        VerdictState::Pending,
        VerdictState::Success,
        VerdictState::Failure,
        VerdictState::Error,
    ]
    .into_iter()
    .find(|known| known.as_str() == state)
    .ok_or_else(|| Error::InvalidColumnType(2, state, Type::Text))?;
    Ok(Verdict {
        commit: commit
            .parse::<CommitId>()
            .map_err(|error| Error::FromSqlConversionFailure(0, Type::Text, Box::new(error)))?,
        context: row.get(1)?,
        state,
        description: row.get(3)?,
    })
}
