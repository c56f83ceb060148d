//! Git: trueup's own mirror of the config repo.

mod failure;
pub mod mirror;
#[cfg(test)]
pub(crate) mod testbed;
mod url;
pub mod watch;

pub use mirror::{Mirror, Tracked};
pub use watch::RefWatch;
