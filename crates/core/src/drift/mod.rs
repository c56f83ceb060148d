//! Drift of Kubernetes objects: what trueup applied against what lives.
//!
//! The baseline is the API server's answer to our apply, reduced to the fields that we
//! own there. Being the server's own words it is already normalised (`1000m` is `1`,
//! defaults are filled in, webhooks have had their say), so the comparison is plain
//! equality. It is never derived from live managed fields: those move to whoever edits.

mod baseline;
mod compare;
mod prepare;
mod segment;

pub use baseline::{Baseline, Masking};
pub use compare::{FieldDrift, Shown};
pub use prepare::{Preparation, PrepareError, is_cluster_scoped, prepare};

#[cfg(test)]
mod tests;
