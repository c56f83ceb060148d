//! Node: one machine.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::connection::Connection;
use super::switches::Switches;
use crate::id::{ClusterName, ProfileName};

/// Spec of a Node: one machine, and, where it names a cluster, its place there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Node {
    /// How the machine is reached.
    pub connection: Connection,
    /// The cluster that it is a member of. Without one the machine is a unit of
    /// its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterName>,
    /// Its role in the cluster; needed where `cluster` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// NodeProfiles, after those of the Fleet; a later one wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<ProfileName>,
    /// Labels of the Kubernetes Node. Only keys that trueup wrote are ever removed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Taints of the Kubernetes Node. Only taints that trueup wrote are ever removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
    /// k3s options of this machine alone (flag names without dashes), after those
    /// of the Cluster.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub k3s_options: BTreeMap<String, serde_json::Value>,
    /// A machine that may be off (a workstation): it never keeps a verdict red.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// What the repo grants for this machine, where it differs from the Fleet.
    #[serde(default)]
    pub switches: Switches,
    /// Its place in life. Removal is said here, never inferred from absence.
    #[serde(default)]
    pub state: NodeState,
}

/// A machine's role in its cluster.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// Runs the control plane and an etcd member.
    Server,
    /// Runs workloads only.
    Agent,
}

/// A machine's place in life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum NodeState {
    /// In service.
    #[default]
    Active,
    /// To leave the fleet. (This slice reports it and does not yet carry it out.)
    Removed,
}

/// A taint as Kubernetes has it.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Taint {
    /// Key of the taint.
    #[schemars(length(min = 1))]
    pub key: String,
    /// Value; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// What it does.
    pub effect: TaintEffect,
}

/// Effect of a taint.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum TaintEffect {
    /// New pods are not scheduled here.
    NoSchedule,
    /// New pods are scheduled here only if nothing else fits.
    PreferNoSchedule,
    /// Running pods are evicted too.
    NoExecute,
}

impl TaintEffect {
    /// The word of the Kubernetes API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoSchedule => "NoSchedule",
            Self::PreferNoSchedule => "PreferNoSchedule",
            Self::NoExecute => "NoExecute",
        }
    }
}
