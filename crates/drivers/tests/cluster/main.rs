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
mod fault;
mod follow;
mod idle;
mod normal;
mod pki;
mod record;
mod route;
mod shell;
mod stage;
