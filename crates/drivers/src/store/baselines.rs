//! What the API server answered to trueup's last apply of each object.

use rusqlite::{Connection, OptionalExtension, Result, Row, params};
use trueup_model::id::{ClusterName, Digest};
use trueup_model::port::store::Recorded;

fn recorded(row: &Row<'_>, first: usize) -> Result<Recorded> {
    Ok(Recorded {
        rendered: Digest(row.get(first)?),
        baseline: row.get(first + 1)?,
        rebuilt: row.get(first + 2)?,
    })
}

pub(super) fn one(
    db: &Connection,
    cluster: &ClusterName,
    object: &str,
) -> Result<Option<Recorded>> {
    db.prepare_cached(
        "SELECT rendered, baseline, rebuilt FROM baseline WHERE cluster = ?1 AND object = ?2",
    )?
    .query_row([cluster.as_str(), object], |row| recorded(row, 0))
    .optional()
}

pub(super) fn all(db: &Connection, cluster: &ClusterName) -> Result<Vec<(String, Recorded)>> {
    db.prepare_cached(
        "SELECT object, rendered, baseline, rebuilt FROM baseline
         WHERE cluster = ?1 ORDER BY object",
    )?
    .query_map([cluster.as_str()], |row| {
        Ok((row.get(0)?, recorded(row, 1)?))
    })?
    .collect()
}

pub(super) fn put(db: &Connection, records: &[(ClusterName, String, Recorded)]) -> Result<()> {
    let mut insert =
        db.prepare_cached("INSERT OR REPLACE INTO baseline VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for (cluster, object, recorded) in records {
        insert.execute(params![
            cluster.as_str(),
            object,
            recorded.rendered.0,
            recorded.baseline,
            recorded.rebuilt
        ])?;
    }
    Ok(())
}

pub(super) fn remove(db: &Connection, cluster: &ClusterName, object: &str) -> Result<bool> {
    let gone = db.execute(
        "DELETE FROM baseline WHERE cluster = ?1 AND object = ?2",
        [cluster.as_str(), object],
    )?;
    Ok(gone > 0)
}
