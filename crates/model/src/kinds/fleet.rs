//! Fleet: one for a repository, or one for a folder of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::connection::SshDefaults;
use super::switches::Switches;
use crate::id::ProfileName;

/// Spec of a Fleet: what holds for everything in its folder (less nested Fleets).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fleet {
    /// What this fleet is, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What the repo grants trueup for every target. The host configuration must
    /// grant it too.
    #[serde(default)]
    pub switches: Switches,
    /// Defaults of the Node documents.
    #[serde(default)]
    pub defaults: Defaults,
}

/// Defaults of the Node documents of a Fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Defaults {
    /// SSH settings.
    #[serde(default)]
    pub ssh: SshDefaults,
    /// NodeProfiles that every Node has, before its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<ProfileName>,
}
