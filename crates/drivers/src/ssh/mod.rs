//! Machines, over SSH or the one that trueup runs on, behind
//! [`NodeShell`](trueup_model::port::NodeShell). What is run there is the node
//! script and nothing else.

mod allow;
mod connect;
mod greet;
mod host_key;
mod local;
mod process;
mod session;
mod settings;
mod shell;
#[cfg(test)]
mod tests;

pub use allow::{AllowList, BadAllow};
pub use greet::{ShownKey, fingerprint, shown_key};
pub use local::LocalShell;
pub use settings::{CONNECT_LIMIT, Hop, Identity, SettingsError, SshSettings};
pub use shell::SshShell;
