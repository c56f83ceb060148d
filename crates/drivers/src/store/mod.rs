//! The state directory and the store in it (SQLite).

mod baselines;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod crash;
mod failure;
mod grants;
mod journal;
mod outbox;
mod schema;
mod sqlite;
mod state_dir;
mod units;

pub use sqlite::SqliteStore;
pub use state_dir::{Holder, StateDir, StateDirError, StateDirView};
