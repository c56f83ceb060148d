//! k3s' releases.

mod cache;
mod release;
#[cfg(test)]
mod tests;

pub use release::{Arch, ReleaseError, Releases};
