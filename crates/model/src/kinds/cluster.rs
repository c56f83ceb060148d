//! Cluster: one k3s cluster.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::secret::SecretRef;
use super::switches::Switches;

/// Spec of a Cluster. Its machines are the Nodes that name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cluster {
    /// What this cluster is for, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What runs it.
    pub k3s: K3s,
    /// How changes are carried through its machines.
    #[serde(default)]
    pub roll_out: RollOut,
    /// What the repo grants for this cluster, where it differs from the Fleet.
    #[serde(default)]
    pub switches: Switches,
}

/// k3s itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct K3s {
    /// Release, as k3s names it.
    #[schemars(
        regex(pattern = r"^v[0-9]+\.[0-9]+\.[0-9]+(-[a-z0-9.]+)?\+k3s[0-9]+$"),
        example = "v1.36.3+k3s1"
    )]
    pub version: String,
    /// The cluster's token: what machines join with, and the key of its bootstrap
    /// data. Written to a 0600 file on each machine, never into `config.yaml`.
    pub token_from: SecretRef,
    /// Server machines.
    #[serde(default)]
    pub server: K3sRole,
    /// Agent machines.
    #[serde(default)]
    pub agent: K3sRole,
}

/// Options of one role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct K3sRole {
    /// k3s options by flag name without dashes (`tls-san`, `disable`, `kubelet-arg`).
    /// trueup sets `server`, `cluster-init`, `token-file`, `node-name` and `node-ip` itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, serde_json::Value>,
}

/// How changes are carried through a cluster's machines. Servers always go one by one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RollOut {
    /// How many agents may be unavailable at once, counting those that are so
    /// already for any other reason: a number, or a percentage (`"25%"`, rounded
    /// down, at least 1). Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<MaxUnavailable>,
}

/// A number or a percentage of agents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum MaxUnavailable {
    /// So many agents.
    Count(#[schemars(range(min = 1))] u32),
    /// A share of all agents, `"25%"`.
    Percent(#[schemars(regex(pattern = r"^[1-9][0-9]?%$|^100%$"))] String),
}

impl RollOut {
    /// Agents that may be unavailable out of `agents`; at least 1.
    pub fn agents_unavailable_max(&self, agents: usize) -> usize {
        match &self.max_unavailable {
            None => 1,
            Some(MaxUnavailable::Count(count)) => usize::try_from(*count).unwrap_or(1).max(1),
            Some(MaxUnavailable::Percent(text)) => {
                let share: usize = text.trim_end_matches('%').parse().unwrap_or(0);
                (agents * share / 100).max(1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_down_but_not_to_nothing() {
        let share = |text: &str| RollOut {
            max_unavailable: Some(MaxUnavailable::Percent(text.to_owned())),
        };
        assert_eq!(share("25%").agents_unavailable_max(7), 1);
        assert_eq!(share("50%").agents_unavailable_max(7), 3);
        assert_eq!(share("1%").agents_unavailable_max(3), 1);
        assert_eq!(RollOut::default().agents_unavailable_max(9), 1);
    }
}
