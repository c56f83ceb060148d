//! The store in one SQLite file (WAL, synchronous=FULL), and the lock on the state
//! directory in which it lies.

mod baselines;
mod database;
mod error;
mod grants;
mod journal;
mod lock;
mod outbox;
mod records;
mod schema;
#[cfg(test)]
mod tests;

pub use database::SqliteStore;
pub use lock::{Holder, LockError, StateLock};
