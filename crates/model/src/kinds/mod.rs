//! The kinds of the config repo, as Rust types. Their JSON Schemas in `schema/`
//! are generated from here; a field's doc comment is what an editor shows.

pub mod application;
pub mod cluster;
pub mod connection;
pub mod fleet;
pub mod node;
pub mod profile;
pub mod secret;
pub mod switches;

pub use application::{Application, ApplicationState, Source};
pub use cluster::{Cluster, K3s, K3sRole, RollOut};
pub use connection::{Connection, LocalConnection, SshConnection, SshDefaults};
pub use fleet::{Defaults, Fleet};
pub use node::{Node, NodeState, Role, Taint, TaintEffect};
pub use profile::{FileEntry, NodeProfile, UnitEntry, UnitState};
pub use secret::SecretRef;
pub use switches::Switches;

/// `apiVersion` of every document of ours.
pub const API_VERSION: &str = "trueup.dev/v1alpha1";
