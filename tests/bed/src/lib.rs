//! The test bed: real machines (systemd-nspawn), a real Kubernetes control plane,
//! a real Gitea and a release server, for trueup's own tests.
//!
//! What it promises: several beds at once never meet (names, bridges, subnets and
//! cgroups belong to one run); dropping a bed removes it; and when the process
//! that owned a bed was killed, the next bed that starts, on any test, removes
//! what it left. What it must never do: touch a process, an interface or a
//! directory that no run of the bed made.
//!
//! Needs root and what `tests/run` installs (`tests/bed/install/*`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::disallowed_macros,
    reason = "test support: a broken bed must stop the test loudly"
)]

pub mod bed;
pub mod cache;
pub mod cgroup;
pub mod control;
pub mod digest;
pub mod disk;
pub mod gitea;
mod host;
pub mod keys;
pub mod machine;
pub mod network;
pub mod power;
pub mod process;
pub mod release;
pub mod run;
pub mod shell;
pub mod sweep;
pub mod wait;

pub use bed::{Bed, BedSpec, MachineSpec};
pub use control::{ControlPlane, ControlSpec, Role, User};
pub use digest::TreeDigest;
pub use gitea::Gitea;
pub use machine::{ExecOutput, Machine};
pub use release::{Fault, ReleaseServer};
