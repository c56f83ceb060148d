//! Rows of grants and pauses: what people said.

use rusqlite::{Connection, Result, params};
use trueup_model::port::store::{Grant, Pause};

pub(super) fn put(db: &Connection, grant: &Grant) -> Result<()> {
    db.prepare_cached("INSERT OR REPLACE INTO grant_of VALUES (?, ?, ?, ?, ?, ?, ?)")?
        .execute(params![
            grant.id,
            grant.unit,
            grant.json,
            grant.author,
            grant.reason,
            grant.granted_s,
            grant.expires_s
        ])?;
    // What lapsed a month before a new grant is of no interest any more.
    db.prepare_cached("DELETE FROM grant_of WHERE expires_s < ?")?
        .execute([grant.granted_s.saturating_sub(30 * 24 * 3600)])
        .map(drop)
}

pub(super) fn all(db: &Connection, now_s: i64) -> Result<Vec<Grant>> {
    db.prepare_cached(
        "SELECT id, unit, json, author, reason, granted_s, expires_s FROM grant_of
         WHERE expires_s > ? ORDER BY id",
    )?
    .query_map([now_s], |row| {
        Ok(Grant {
            id: row.get(0)?,
            unit: row.get(1)?,
            json: row.get(2)?,
            author: row.get(3)?,
            reason: row.get(4)?,
            granted_s: row.get(5)?,
            expires_s: row.get(6)?,
        })
    })?
    .collect()
}

pub(super) fn remove(db: &Connection, id: &str) -> Result<bool> {
    let gone = db
        .prepare_cached("DELETE FROM grant_of WHERE id = ?")?
        .execute([id])?;
    Ok(gone > 0)
}

pub(super) fn put_pause(db: &Connection, pause: &Pause) -> Result<()> {
    db.prepare_cached("INSERT OR REPLACE INTO pause VALUES (?, ?, ?, ?, ?)")?
        .execute(params![
            pause.target,
            pause.reason,
            pause.author,
            pause.since_s,
            pause.until_s
        ])
        .map(drop)
}

pub(super) fn pauses(db: &Connection, now_s: i64) -> Result<Vec<Pause>> {
    db.prepare_cached(
        "SELECT target, reason, author, since_s, until_s FROM pause
         WHERE until_s > ? ORDER BY target",
    )?
    .query_map([now_s], |row| {
        Ok(Pause {
            target: row.get(0)?,
            reason: row.get(1)?,
            author: row.get(2)?,
            since_s: row.get(3)?,
            until_s: row.get(4)?,
        })
    })?
    .collect()
}

pub(super) fn remove_pause(db: &Connection, target: &str) -> Result<bool> {
    let gone = db
        .prepare_cached("DELETE FROM pause WHERE target = ?")?
        .execute([target])?;
    Ok(gone > 0)
}
