//! The journal: a row before a step begins, its end afterwards.

use rusqlite::{Connection, Result, Row, ToSql, params};
use trueup_model::id::Digest;
use trueup_model::port::store::{JournalEntry, JournalRecord, WHY_CHARS_MAX};
use trueup_model::step::Outcome;
use trueup_model::verdict::cut;

use super::failure::{OddWord, odd_column};
use super::units::commit_at;

const COLUMNS: &str = "SELECT row, step, unit, verb, target, subject, commit_id, job, started_s, \
                       ended_s, outcome, why FROM journal";

fn words(outcome: &Outcome) -> (&'static str, &str) {
    match outcome {
        Outcome::Done => ("done", ""),
        Outcome::Failed(why) => ("failed", why),
        Outcome::Unknown(why) => ("unknown", why),
        Outcome::Fenced(why) => ("fenced", why),
    }
}

fn outcome(word: &str, why: String) -> Result<Outcome, OddWord> {
    match word {
        "done" => Ok(Outcome::Done),
        "failed" => Ok(Outcome::Failed(why)),
        "unknown" => Ok(Outcome::Unknown(why)),
        "fenced" => Ok(Outcome::Fenced(why)),
        other => Err(OddWord(other.to_owned())),
    }
}

fn record(row: &Row<'_>) -> Result<JournalRecord> {
    let unit: String = row.get(2)?;
    let ended: Option<u64> = row.get(9)?;
    let end = match ended {
        None => None,
        Some(at_s) => {
            let word: String = row.get(10)?;
            let how = outcome(&word, row.get(11)?).map_err(|error| odd_column(10, error))?;
            Some((at_s, how))
        }
    };
    Ok(JournalRecord {
        row: row.get(0)?,
        entry: JournalEntry {
            step: Digest(row.get(1)?),
            unit: unit.parse().map_err(|error| odd_column(2, error))?,
            verb: row.get(3)?,
            target: row.get(4)?,
            subject: row.get(5)?,
            commit: commit_at(row, 6)?,
            job: row.get(7)?,
        },
        started_s: row.get(8)?,
        end,
    })
}

fn records(db: &Connection, rest: &str, values: &[&dyn ToSql]) -> Result<Vec<JournalRecord>> {
    db.prepare_cached(&format!("{COLUMNS} {rest}"))?
        .query_map(values, record)?
        .collect()
}

pub(super) fn started(db: &Connection, entry: &JournalEntry, at_s: u64) -> Result<i64> {
    db.prepare_cached(
        "INSERT INTO journal (step, unit, verb, target, subject, commit_id, job, started_s)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .insert(params![
        entry.step.0,
        entry.unit.to_string(),
        entry.verb,
        entry.target,
        entry.subject,
        entry.commit.as_str(),
        entry.job,
        at_s
    ])
}

const END: &str = "UPDATE journal SET ended_s = ?1, outcome = ?2, why = ?3 WHERE ended_s IS NULL";

pub(super) fn ended(db: &Connection, row: i64, outcome: &Outcome, at_s: u64) -> Result<()> {
    let (word, why) = words(outcome);
    db.prepare_cached(&format!("{END} AND row = ?4"))?
        .execute(params![at_s, word, cut_why(why), row])?;
    Ok(())
}

pub(super) fn abandon(db: &Connection, why: &str, at_s: u64) -> Result<usize> {
    db.execute(END, params![at_s, "unknown", cut_why(why)])
}

pub(super) fn unfinished(db: &Connection) -> Result<Vec<JournalRecord>> {
    records(db, "WHERE ended_s IS NULL ORDER BY row", &[])
}

pub(super) fn history(db: &Connection, limit: u32) -> Result<Vec<JournalRecord>> {
    records(db, "ORDER BY row DESC LIMIT ?1", &[&limit])
}

/// A reason on one line, as long as anybody reads.
pub(super) fn cut_why(why: &str) -> String {
    cut(&why.replace(['\n', '\r'], " "), WHY_CHARS_MAX)
}
