//! End-to-end tests: trueup as a service on a machine of its own, a config repo that
//! people push to, and fleets of real machines (tests/bed/README.md). `k3s` is the
//! double of tests/k3s-double.
//!
//! Each test is a story on one bed, and can be run alone:
//! `cargo nextest run --features bed -E 'binary(bed_e2e) & test(blank)'`.

#![allow(
    clippy::print_stderr,
    clippy::indexing_slicing,
    reason = "what a story measured belongs to its output, and a test may fail loudly"
)]
#![allow(
    dead_code,
    unused_imports,
    reason = "the rig is whole; not every story uses every part"
)]

mod adoption;
mod applications;
mod bad_commits;
mod bad_start;
mod blank;
mod by_hand;
mod drift;
mod first_machine;
mod killed;
mod labels;
mod looking;
mod rig;
mod rolling;
mod secrets;
