//! The words of trueup: identities, the kinds of the config repo, facts, steps
//! and the ports behind which the world lies.
//!
//! This crate knows nothing of how anything is reached (that is `drivers`) or
//! decided (that is `core`). It has no I/O, no clock, no async runtime.

pub mod document;
pub mod facts;
pub mod id;
pub mod job;
pub mod kinds;
pub mod origin;
pub mod port;
pub mod sops;
pub mod step;
pub mod tree;
pub mod verdict;
