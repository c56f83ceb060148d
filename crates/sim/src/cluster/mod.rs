//! A cluster: etcd's members, the objects of its API, and the controllers that act on
//! them.

mod apply;
mod controller;
mod defaults;
mod fields;
mod kind;
mod node;
mod rules;
mod schema;
mod store;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use trueup_model::id::Digest;

use crate::fleet::SimFleet;

pub(crate) use apply::Manager;
pub(crate) use kind::{is_namespaced, kind_of_group};
pub(crate) use node::{Registration, fact_of, node_key};
use rules::kind_rules;
pub(crate) use store::{Key, Stored};

/// A simulated cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// The token that its data is encrypted with.
    pub(crate) token: Digest,
    /// Options that every server must share.
    pub(crate) critical: BTreeMap<String, String>,
    /// Names of etcd's members, each with its machine's address. All are voters: a
    /// learner is promoted before its server is ready.
    pub(crate) members: Vec<(String, String)>,
    /// Counts changes: the `resourceVersion` of whatever changed last.
    pub(crate) revision: u64,
    /// Objects by group, kind, namespace and name.
    #[serde(with = "store::as_list")]
    pub(crate) objects: BTreeMap<Key, Stored>,
}

impl SimFleet {
    pub(crate) fn begin_cluster(
        &mut self,
        token: Digest,
        critical: BTreeMap<String, String>,
    ) -> String {
        let id = self.unique();
        let mut cluster = Cluster {
            token,
            critical,
            members: Vec::new(),
            revision: 0,
            objects: BTreeMap::new(),
        };
        for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            let uid = self.uid();
            cluster.create_namespace(name, uid);
        }
        self.clusters.insert(id.clone(), cluster);
        id
    }

    pub(crate) fn add_member(&mut self, cluster: &str, name: &str, address: &str) {
        if let Some(cluster) = self.clusters.get_mut(cluster) {
            cluster.members.push((name.to_owned(), address.to_owned()));
            cluster.members.sort();
        }
    }

    /// Members of etcd whose machine and k3s are up, by name; `but` is left out.
    pub(crate) fn etcd_up(&self, cluster: &str, but: Option<&str>) -> Vec<&str> {
        let members = self.clusters.get(cluster).map(|cluster| &cluster.members);
        members
            .into_iter()
            .flatten()
            .filter(|(_, address)| Some(address.as_str()) != but)
            .filter(|(_, address)| {
                self.running(address).is_some_and(|machine| {
                    let member = machine
                        .member
                        .as_ref()
                        .map(|member| member.cluster.as_str());
                    machine.k3s_up() && member == Some(cluster)
                })
            })
            .map(|(name, _)| name.as_str())
            .collect()
    }

    pub(crate) fn has_quorum(&self, cluster: &str) -> bool {
        let voters = self.clusters.get(cluster).map_or(0, |it| it.members.len());
        voters > 0 && self.etcd_up(cluster, None).len() > voters / 2
    }
}

/// The text at a pointer.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}
