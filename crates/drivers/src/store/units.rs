//! The counter, plain values, and what is remembered of units and the branch.

use rusqlite::{Connection, OptionalExtension, Result, Row, params};
use trueup_model::id::{CommitId, Digest, FleetName, UnitId};
use trueup_model::port::store::{CommitSeen, Settled};

use super::failure::odd_column;

pub(super) fn next_number(db: &Connection) -> Result<u64> {
    db.query_row("UPDATE counter SET n = n + 1 RETURNING n", [], |row| {
        row.get(0)
    })
}

pub(super) fn get(db: &Connection, key: &str) -> Result<Option<String>> {
    db.prepare_cached("SELECT value FROM value WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()
}

pub(super) fn put(db: &Connection, key: &str, value: &str) -> Result<()> {
    db.prepare_cached("INSERT OR REPLACE INTO value VALUES (?1, ?2)")?
        .execute([key, value])?;
    Ok(())
}

/// By bytes, not by LIKE: a prefix may hold `%` and `_`, and case matters.
pub(super) fn list(db: &Connection, prefix: &str) -> Result<Vec<(String, String)>> {
    db.prepare_cached(
        "SELECT key, value FROM value
         WHERE key >= ?1 AND substr(key, 1, length(?1)) = ?1 ORDER BY key",
    )?
    .query_map([prefix], |row| Ok((row.get(0)?, row.get(1)?)))?
    .collect()
}

pub(super) fn remove(db: &Connection, key: &str) -> Result<bool> {
    Ok(db.execute("DELETE FROM value WHERE key = ?1", [key])? > 0)
}

pub(super) fn epoch(db: &Connection, unit: &UnitId) -> Result<Option<u64>> {
    db.prepare_cached("SELECT epoch FROM epoch WHERE unit = ?1")?
        .query_row([unit.to_string()], |row| row.get(0))
        .optional()
}

pub(super) fn set_epoch(db: &Connection, unit: &UnitId, epoch: u64) -> Result<u64> {
    db.query_row(
        "INSERT INTO epoch VALUES (?1, ?2)
         ON CONFLICT (unit) DO UPDATE SET epoch = max(epoch, excluded.epoch) RETURNING epoch",
        params![unit.to_string(), epoch],
        |row| row.get(0),
    )
}

pub(super) fn commit_at(row: &Row<'_>, column: usize) -> Result<CommitId> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error| odd_column(column, error))
}

pub(super) fn settled(db: &Connection, unit: &UnitId) -> Result<Option<Settled>> {
    db.prepare_cached("SELECT commit_id, digest, at_s FROM settled WHERE unit = ?1")?
        .query_row([unit.to_string()], |row| {
            Ok(Settled {
                commit: commit_at(row, 0)?,
                digest: Digest(row.get(1)?),
                at_s: row.get(2)?,
            })
        })
        .optional()
}

pub(super) fn set_settled(db: &Connection, unit: &UnitId, settled: &Settled) -> Result<()> {
    db.execute(
        "INSERT OR REPLACE INTO settled VALUES (?1, ?2, ?3, ?4)",
        params![
            unit.to_string(),
            settled.commit.as_str(),
            settled.digest.0,
            settled.at_s
        ],
    )?;
    Ok(())
}

pub(super) fn commit_seen(
    db: &Connection,
    fleet: &FleetName,
    commit: &CommitId,
    at_s: u64,
) -> Result<bool> {
    let added = db.execute(
        "INSERT INTO commit_seen (fleet, commit_id, at_s) SELECT ?1, ?2, ?3
         WHERE ?2 IS NOT (SELECT commit_id FROM commit_seen WHERE fleet = ?1
                          ORDER BY seq DESC LIMIT 1)",
        params![fleet.as_str(), commit.as_str(), at_s],
    )?;
    Ok(added > 0)
}

pub(super) fn commits(db: &Connection, fleet: &FleetName, limit: u32) -> Result<Vec<CommitSeen>> {
    db.prepare_cached(
        "SELECT commit_id, at_s FROM commit_seen WHERE fleet = ?1 ORDER BY seq DESC LIMIT ?2",
    )?
    .query_map(params![fleet.as_str(), limit], |row| {
        Ok(CommitSeen {
            commit: commit_at(row, 0)?,
            at_s: row.get(1)?,
        })
    })?
    .collect()
}
