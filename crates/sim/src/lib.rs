//! A simulated fleet: machines with systemd and k3s, clusters with etcd and an API
//! server, as one plain value that is saved as JSON.
//!
//! It knows the model's words and nothing of how trueup decides: a simulation that
//! shared the planner's rules would prove nothing. It does no I/O, has no clock and no
//! runtime; [`Keeper`] is how the outside hands in the time and keeps the value.

mod cluster;
mod fault;
mod fleet;
mod machine;
mod port;
mod release;

pub use cluster::Cluster;
pub use fault::{Fault, FaultError};
pub use fleet::SimFleet;
pub use machine::Machine;
pub use port::{Keeper, SimApi, SimEtcd, SimShell};
pub use release::Release;
