//! Observed: what is asked of the world, and what its replies mean.

pub mod probe;
pub mod request;
pub mod seen;

pub use probe::parse;
pub use request::probe_request;
pub use seen::{Compared, SeenCluster, SeenUnit};
