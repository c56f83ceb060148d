//! What people allowed, and what they want left alone.

use rusqlite::{Connection, Result, params};
use trueup_model::port::store::{Grant, Pause};

pub(super) fn put(db: &Connection, grant: &Grant) -> Result<()> {
    db.execute(
        "INSERT OR REPLACE INTO granted VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            grant.id,
            grant.what,
            grant.author,
            grant.reason,
            grant.at_s,
            grant.expires_s
        ],
    )?;
    Ok(())
}

pub(super) fn all(db: &Connection, now_s: u64) -> Result<Vec<Grant>> {
    db.prepare_cached(
        "SELECT id, what, author, reason, at_s, expires_s FROM granted
         WHERE expires_s > ?1 ORDER BY id",
    )?
    .query_map([now_s], |row| {
        Ok(Grant {
            id: row.get(0)?,
            what: row.get(1)?,
            author: row.get(2)?,
            reason: row.get(3)?,
            at_s: row.get(4)?,
            expires_s: row.get(5)?,
        })
    })?
    .collect()
}

pub(super) fn revoke(db: &Connection, id: &str) -> Result<bool> {
    Ok(db.execute("DELETE FROM granted WHERE id = ?1", [id])? > 0)
}

pub(super) fn pause(db: &Connection, pause: &Pause) -> Result<()> {
    db.execute(
        "INSERT OR REPLACE INTO pause VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            pause.target,
            pause.reason,
            pause.author,
            pause.at_s,
            pause.until_s
        ],
    )?;
    Ok(())
}

pub(super) fn pauses(db: &Connection, now_s: u64) -> Result<Vec<Pause>> {
    db.prepare_cached(
        "SELECT target, reason, author, at_s, until_s FROM pause
         WHERE until_s IS NULL OR until_s > ?1 ORDER BY target",
    )?
    .query_map([now_s], |row| {
        Ok(Pause {
            target: row.get(0)?,
            reason: row.get(1)?,
            author: row.get(2)?,
            at_s: row.get(3)?,
            until_s: row.get(4)?,
        })
    })?
    .collect()
}

pub(super) fn resume(db: &Connection, target: &str) -> Result<bool> {
    Ok(db.execute("DELETE FROM pause WHERE target = ?1", [target])? > 0)
}
