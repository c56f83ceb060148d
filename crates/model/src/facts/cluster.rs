//! Facts of one cluster, from its API.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::object::{LiveObject, ObjectRef};
use crate::id::AppName;
use crate::kinds::Taint;

/// Facts of a cluster, taken from watches: local, and as old as the last event or
/// bookmark.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClusterFacts {
    /// Kubernetes Nodes by name.
    pub nodes: BTreeMap<String, NodeObject>,
    /// Why the watch of the Nodes fails at present. What it told before still stands,
    /// but nothing that disrupts may rest on it: a cordon since then is not in it.
    pub nodes_unheard: Option<String>,
    /// What trueup's inventory says, by Application.
    pub inventories: BTreeMap<AppName, Inventory>,
    /// Live objects that an inventory names or that carry our label.
    pub objects: BTreeMap<ObjectRef, LiveObject>,
    /// Kinds (`apiVersion kind`) whose watch is silent for too long or could not be
    /// opened, with the reason: objects of these are Unknown.
    pub blind: BTreeMap<String, String>,
    /// Asked kinds (`apiVersion`, `kind`) whose objects have no namespace, as the
    /// server says; a kind that it does not serve (yet) is missing.
    pub cluster_scoped: BTreeSet<(String, String)>,
    /// The ownership record of the cluster; `None`: nobody manages it.
    pub owner: Option<ClusterOwner>,
    /// Set by somebody on the cluster itself (annotation `trueup.dev/pause` on the
    /// ownership record): reason.
    pub paused: Option<String>,
}

/// Who manages a cluster, as recorded in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterOwner {
    /// Holder and epoch.
    pub claim: crate::id::Claim,
    /// Id of this cluster's inventories: the value of the creation mark.
    pub id: String,
}

/// A Kubernetes Node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeObject {
    /// `metadata.uid`.
    pub uid: String,
    /// Condition Ready is True.
    pub ready: bool,
    /// `spec.unschedulable`.
    pub unschedulable: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Taints, in their order.
    pub taints: Vec<RawTaint>,
    /// `status.nodeInfo.kubeletVersion`.
    pub kubelet_version: String,
    /// Condition EtcdIsVoter, where there is one.
    pub etcd_voter: Option<bool>,
    /// Label keys that trueup owns (managed fields of its apply).
    pub owned_labels: Vec<String>,
}

/// A taint as it stands on a Node; effects that we never write are kept as text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RawTaint {
    /// Key.
    pub key: String,
    /// Value.
    #[serde(default)]
    pub value: String,
    /// Effect.
    pub effect: String,
    /// `timeAdded`, kept as it is.
    #[serde(rename = "timeAdded", default, skip_serializing_if = "Option::is_none")]
    pub time_added: Option<String>,
}

impl RawTaint {
    /// True if this is the taint that `wanted` asks for.
    pub fn is(&self, wanted: &Taint) -> bool {
        self.key == wanted.key
            && self.value == wanted.value
            && self.effect == wanted.effect.as_str()
    }
}

/// Annotation on a Node with the taints that trueup wrote: `key:effect` by comma.
pub const OWNED_TAINTS: &str = "trueup.dev/taints";

/// What trueup made for one Application on one cluster. Lives in the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    /// Entries by object; written before the create.
    pub entries: Vec<InventoryEntry>,
    /// The commit that the Application last converged to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Deletions done: per commit, and when (seconds since 1970), for the budget.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deletions: Vec<Deletion>,
    /// Size of the inventory when the budget of `commit` was opened.
    #[serde(default)]
    pub size_at_commit: usize,
}

/// One object of an inventory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InventoryEntry {
    /// The object.
    #[serde(flatten)]
    pub object: ObjectRef,
    /// Its UID, recorded after the create; `None` between the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// It stood before trueup came: never pruned without a grant.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
}

/// Deletions done in one pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// For which commit.
    pub commit: String,
    /// When, seconds since 1970, by the host's clock.
    pub at_s: i64,
    /// How many.
    pub count: usize,
}
