//! The kube driver against a real API server. Needs the cache: run by `tests/run`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "tests"
)]

mod follow;
mod shell;
mod stage;
