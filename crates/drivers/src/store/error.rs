//! What SQLite says, in the port's words.

use rusqlite::{Error, ErrorCode};
use trueup_model::port::StoreError;

/// Makes the port's error of SQLite's.
pub(super) fn told(path: &str, what: &'static str, error: &Error) -> StoreError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full { path },
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => StoreError::ReadOnly { path },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy { path },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Corrupt {
            path,
            why: error.to_string(),
        },
        Some(ErrorCode::CannotOpen) => StoreError::Open {
            path,
            why: error.to_string(),
        },
        _ => StoreError::Failed {
            what,
            why: error.to_string(),
        },
    }
}
