//! The kube and etcd drivers against a real API server and real etcd members. Needs the cache: run by `tests/run`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "tests"
)]

mod etcd;
mod follow;
mod pki;
mod shell;
mod stage;
