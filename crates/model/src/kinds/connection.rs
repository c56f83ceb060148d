//! How a machine is reached.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::NodeName;

/// How a machine is reached: exactly one of the fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Connection {
    /// Over SSH, with pinned host keys.
    Ssh(SshConnection),
    /// The machine that trueup itself runs on. It is never rebooted or drained
    /// without a grant.
    Local(LocalConnection),
}

/// The machine that trueup runs on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LocalConnection {
    /// The machine's address in the cluster's network, where it is a member of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// Over SSH. What is silent here is taken from `Fleet.spec.defaults.ssh`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SshConnection {
    /// IP address or DNS name. The host configuration's `allow.addresses` bounds it.
    #[schemars(length(min = 1))]
    pub address: String,
    /// TCP port. Default: the Fleet's, then 22.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// User to log in as; anyone but root needs sudo without a password.
    /// Default: the Fleet's, then root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Name of an SSH identity in the host configuration; never a path.
    /// Default: the Fleet's, then `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// The machine's public host keys, as in `known_hosts` without the host
    /// (`ssh-ed25519 AAAA…`). Any other key is refused.
    #[schemars(length(min = 1))]
    pub host_keys: Vec<String>,
    /// Machines to go through, the first one first. Every hop's key is pinned by
    /// its own Node document.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jump: Vec<NodeName>,
}

/// Defaults of `connection.ssh`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SshDefaults {
    /// TCP port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// User to log in as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Name of an SSH identity in the host configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
}
