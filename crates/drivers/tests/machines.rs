//! The shells on real machines. Needs root and the bed's cache: run by `tests/run`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

#[path = "machines/connection.rs"]
mod connection;
#[path = "machines/files.rs"]
mod files;
#[path = "machines/jobs.rs"]
mod jobs;
#[path = "machines/local.rs"]
mod local;
#[path = "machines/world.rs"]
mod world;
