//! Rows of baselines.

use std::collections::BTreeMap;

use rusqlite::{Connection, Result, params};
use trueup_model::id::Digest;
use trueup_model::port::StoreError;
use trueup_model::port::store::{BASELINE_BYTES_MAX, Recorded};

pub(super) fn check(recorded: &[(String, String, Recorded)]) -> Result<(), StoreError> {
    let too_large = recorded
        .iter()
        .find(|(_, _, recorded)| recorded.baseline.len() > BASELINE_BYTES_MAX);
    match too_large {
        None => Ok(()),
        Some((_, object, recorded)) => Err(StoreError::TooLarge {
            what: format!("the baseline of {object}"),
            bytes: recorded.baseline.len(),
            max: BASELINE_BYTES_MAX,
        }),
    }
}

pub(super) fn all(db: &Connection, cluster: &str) -> Result<BTreeMap<String, Recorded>> {
    db.prepare_cached("SELECT object, rendered, json, rebuilt FROM baseline WHERE cluster = ?")?
        .query_map([cluster], |row| {
            Ok((
                row.get(0)?,
                Recorded {
                    rendered: Digest(row.get(1)?),
                    baseline: row.get(2)?,
                    rebuilt: row.get(3)?,
                },
            ))
        })?
        .collect()
}

pub(super) fn put(db: &Connection, recorded: &[(String, String, Recorded)]) -> Result<()> {
    let mut insert = db.prepare_cached("INSERT OR REPLACE INTO baseline VALUES (?, ?, ?, ?, ?)")?;
    for (cluster, object, recorded) in recorded {
        insert.execute(params![
            cluster,
            object,
            recorded.rendered.0,
            recorded.baseline,
            recorded.rebuilt
        ])?;
    }
    Ok(())
}

pub(super) fn remove(db: &Connection, cluster: &str, object: &str) -> Result<()> {
    db.prepare_cached("DELETE FROM baseline WHERE cluster = ? AND object = ?")?
        .execute([cluster, object])
        .map(drop)
}
