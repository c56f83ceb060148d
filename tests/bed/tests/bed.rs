//! The bed tested by itself. Needs root and the cache: run by `tests/run`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

#[path = "bed/control.rs"]
mod control;
#[path = "bed/machines.rs"]
mod machines;
#[path = "bed/releases.rs"]
mod releases;
#[path = "bed/sweep.rs"]
mod sweep;
