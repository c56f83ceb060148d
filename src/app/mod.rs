//! The app: settings become drivers, drivers serve engines. The only place that
//! names concrete drivers.

pub mod commit;
pub mod daemon;
pub mod demo;
pub mod destinations;
pub mod host;
pub mod office;
pub mod result;
pub mod runtime;
pub mod settings;
pub mod socket;
pub mod view;

mod branches;
mod clock;
mod compare;
mod drive;
pub(crate) mod first;
mod journal;
mod look;
mod once;
mod outbox;
mod perform;
mod simulated;
mod tip;
mod vault;
mod verdicts;
pub(crate) mod worktree;
pub(crate) mod world;
