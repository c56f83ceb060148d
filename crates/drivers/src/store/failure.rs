//! What SQLite's errors mean to a person.

use rusqlite::{Error, ErrorCode, ffi};
use trueup_model::port::StoreError;
use trueup_model::port::store::TEXT_BYTES_MAX;

/// A column that does not hold what trueup writes there.
pub(super) fn odd_column(
    column: usize,
    why: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(why))
}

/// A text that the code of this room does not know.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a word of this format")]
pub(super) struct OddWord(pub(super) String);

pub(super) fn store_error(what: &'static str, path: &str, error: &Error) -> StoreError {
    let path = path.to_owned();
    let unavailable = |why: String| StoreError::Unavailable {
        what,
        path: path.clone(),
        why,
    };
    let corrupt = |why: String| StoreError::Corrupt {
        what,
        path: path.clone(),
        why,
    };
    let Error::SqliteFailure(code, text) = error else {
        return match error {
            Error::FromSqlConversionFailure(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::InvalidColumnType(..)
            | Error::Utf8Error(..) => corrupt(error.to_string()),
            _ => unavailable(error.to_string()),
        };
    };
    // A write into the shared memory file that fails for want of space comes as
    // an I/O error of its own (SQLite result codes, 4874).
    if code.code == ErrorCode::DiskFull || code.extended_code == ffi::SQLITE_IOERR_SHMSIZE {
        return StoreError::Full { what, path };
    }
    let why = || text.clone().unwrap_or_else(|| code.to_string());
    match code.code {
        ErrorCode::DatabaseBusy
        | ErrorCode::DatabaseLocked
        | ErrorCode::FileLockingProtocolFailed => StoreError::Busy { what, path },
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied => StoreError::ReadOnly { what, path },
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => corrupt(why()),
        ErrorCode::Unknown if why().contains("no such table") => corrupt(why()),
        _ => unavailable(why()),
    }
}

/// Refuses a field that is longer than any honest one.
pub(super) fn check_size(what: &'static str, text: &str) -> Result<(), StoreError> {
    if text.len() <= TEXT_BYTES_MAX {
        return Ok(());
    }
    Err(StoreError::TooLarge {
        what,
        bytes: text.len(),
        max: TEXT_BYTES_MAX,
    })
}
