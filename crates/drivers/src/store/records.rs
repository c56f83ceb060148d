//! Rows of small things: the counter, what is settled, epochs, named values.

use rusqlite::types::Type;
use rusqlite::{Connection, Error, OptionalExtension as _, Result, params};
use trueup_model::id::{CommitId, Digest};
use trueup_model::port::StoreError;
use trueup_model::port::store::{Settled, VALUE_BYTES_MAX};

pub(super) fn check(what: &str, value: &str) -> Result<(), StoreError> {
    if value.len() <= VALUE_BYTES_MAX {
        return Ok(());
    }
    Err(StoreError::TooLarge {
        what: what.to_owned(),
        bytes: value.len(),
        max: VALUE_BYTES_MAX,
    })
}

pub(super) fn next_number(db: &Connection) -> Result<u64> {
    let number: i64 = db
        .prepare_cached("UPDATE counter SET number = number + 1 RETURNING number")?
        .query_row([], |row| row.get(0))?;
    unsigned(number)
}

pub(super) fn settled(db: &Connection, unit: &str) -> Result<Option<Settled>> {
    db.prepare_cached("SELECT commit_id, desired, at_s FROM settled WHERE unit = ?")?
        .query_row([unit], |row| {
            let commit: String = row.get(0)?;
            Ok(Settled {
                commit: commit.parse::<CommitId>().map_err(|error| {
                    Error::FromSqlConversionFailure(0, Type::Text, Box::new(error))
                })?,
                desired: Digest(row.get(1)?),
                at_s: row.get(2)?,
            })
        })
        .optional()
}

pub(super) fn put_settled(db: &Connection, unit: &str, settled: &Settled) -> Result<()> {
    db.prepare_cached("INSERT OR REPLACE INTO settled VALUES (?, ?, ?, ?)")?
        .execute(params![
            unit,
            settled.commit.as_str(),
            settled.desired.0,
            settled.at_s
        ])
        .map(drop)
}

pub(super) fn epoch(db: &Connection, unit: &str) -> Result<Option<u64>> {
    db.prepare_cached("SELECT epoch FROM epoch WHERE unit = ?")?
        .query_row([unit], |row| row.get(0))
        .optional()?
        .map(unsigned)
        .transpose()
}

pub(super) fn put_epoch(db: &Connection, unit: &str, epoch: u64) -> Result<()> {
    let epoch =
        i64::try_from(epoch).map_err(|error| Error::ToSqlConversionFailure(Box::new(error)))?;
    db.prepare_cached(
        "INSERT INTO epoch VALUES (?, ?)
         ON CONFLICT (unit) DO UPDATE SET epoch = max(epoch, excluded.epoch)",
    )?
    .execute(params![unit, epoch])
    .map(drop)
}

pub(super) fn value(db: &Connection, name: &str) -> Result<Option<String>> {
    db.prepare_cached("SELECT value FROM value WHERE name = ?")?
        .query_row([name], |row| row.get(0))
        .optional()
}

pub(super) fn put_value(db: &Connection, name: &str, value: &str) -> Result<()> {
    db.prepare_cached("INSERT OR REPLACE INTO value VALUES (?, ?)")?
        .execute([name, value])
        .map(drop)
}

fn unsigned(number: i64) -> Result<u64> {
    u64::try_from(number).map_err(|_| Error::IntegralValueOutOfRange(0, number))
}
