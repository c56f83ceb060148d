//! Application: manifests for one cluster.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::switches::Switches;
use crate::id::ClusterName;

/// Spec of an Application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Application {
    /// The cluster that it runs on.
    pub cluster: ClusterName,
    /// Where its manifests come from: exactly one of the fields.
    pub source: Source,
    /// Namespace of objects that name none. Default: `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Delete objects that trueup created and that are no longer in the source,
    /// within the deletion budget. Default: true.
    #[serde(default = "yes")]
    pub prune: bool,
    /// What the repo grants for this Application, where it differs from the Cluster.
    #[serde(default)]
    pub switches: Switches,
    /// Its place in life. Removal is said here, never inferred from absence.
    #[serde(default)]
    pub state: ApplicationState,
}

fn yes() -> bool {
    true
}

/// Where manifests come from. `git`, `oci`, `chart` and `kustomize` are reserved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// A folder of this repository, below the Fleet's folder; every `.yaml`, `.yml`
    /// and `.json` file in it and below. A folder that holds a `kustomization.yaml`
    /// or a `Chart.yaml` is refused.
    Path(#[schemars(length(min = 1))] String),
}

/// An Application's place in life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ApplicationState {
    /// In service.
    #[default]
    Active,
    /// To be deleted, in reverse order, after a grant.
    Removed,
}
