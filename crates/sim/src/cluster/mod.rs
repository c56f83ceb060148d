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

/// The text at a pointer.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

impl Cluster {
    /// A new cluster with the namespaces that every one has.
    pub(crate) fn begin(
        token: Digest,
        critical: BTreeMap<String, String>,
        uids: &[String],
    ) -> Self {
        let mut cluster = Self {
            token,
            critical,
            members: Vec::new(),
            revision: 0,
            objects: BTreeMap::new(),
        };
        let names = ["default", "kube-system", "kube-public", "kube-node-lease"];
        for (name, uid) in names.into_iter().zip(uids) {
            cluster.create_namespace(name, uid.clone());
        }
        cluster
    }
}
