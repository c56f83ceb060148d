//! One look at a unit: everything that a plan is made from, beside the desired.

use std::collections::BTreeMap;

use serde::Serialize;
use trueup_model::facts::Known;
use trueup_model::facts::cluster::ClusterFacts;
use trueup_model::facts::etcd::EtcdFacts;
use trueup_model::facts::machine::MachineFacts;
use trueup_model::facts::object::ObjectRef;
use trueup_model::id::{AppName, Digest, NodeName};

use crate::health::Health;

/// A unit as one look saw it.
#[derive(Debug, Clone, Default)]
pub struct SeenUnit {
    /// Machines; every declared machine has an entry.
    pub machines: BTreeMap<NodeName, Known<MachineFacts>>,
    /// The cluster, where the unit is one.
    pub cluster: Option<SeenCluster>,
}

impl SeenUnit {
    /// Facts of a machine, if it could be looked at.
    pub fn machine(&self, name: &NodeName) -> Option<&MachineFacts> {
        self.machines.get(name)?.known()
    }
}

/// A cluster as one look saw it.
#[derive(Debug, Clone)]
pub struct SeenCluster {
    /// Facts of the API.
    pub api: Known<ClusterFacts>,
    /// `/readyz` of each server, asked in this look.
    pub ready: BTreeMap<NodeName, Known<()>>,
    /// etcd, asked in this look.
    pub etcd: Known<EtcdFacts>,
    /// How each declared object compares with the live one.
    pub compared: BTreeMap<(AppName, ObjectRef), Compared>,
    /// Health of live objects of ours.
    pub health: BTreeMap<(AppName, ObjectRef), Health>,
    /// The digest of the k3s release's binary, from its checksum file.
    pub release: Known<Digest>,
}

impl Default for SeenCluster {
    fn default() -> Self {
        let why = || "not looked at".to_owned();
        Self {
            api: Known::Unknown(why()),
            ready: BTreeMap::new(),
            etcd: Known::Unknown(why()),
            compared: BTreeMap::new(),
            health: BTreeMap::new(),
            release: Known::Unknown(why()),
        }
    }
}

/// A declared object beside the live one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Compared {
    /// It is as trueup last applied it, and the declaration has not changed.
    Same,
    /// The declaration has not changed; the live object has: these fields.
    Drifted(Vec<String>),
    /// It does not exist.
    Missing,
    /// The declaration is new; the server says what it would change.
    Changed {
        /// Fields that would change; empty: nothing would, only our record is new.
        fields: Vec<String>,
        /// False: compared locally, since the credential may not ask the server.
        confirmed: bool,
        /// trueup's inventory names the object already.
        ours: bool,
    },
    /// Other managers own fields that the declaration names.
    Conflict(String),
    /// The server refuses it.
    Invalid(String),
    /// Its namespace or kind does not exist yet.
    NotYet(String),
    /// Nobody knows.
    Unknown(String),
}
