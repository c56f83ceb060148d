//! The ports: what core needs of the world, in the model's words. No crate of a
//! driver shows through here.

pub mod cluster_api;
pub mod etcd;
pub mod forge;
pub mod git;
pub mod node_shell;
pub mod store;

pub use cluster_api::{ApplyRefusal, ClusterApi, ClusterError, Force};
pub use etcd::{Etcd, EtcdError};
pub use forge::{Forge, ForgeError};
pub use git::{BranchName, FetchedTip, GitError, GitRepo, Moved};
pub use node_shell::{ByteStream, Delivery, NodeError, NodeShell, Staged};
pub use store::{Store, StoreError};
