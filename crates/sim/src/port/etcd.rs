//! etcd's members, as the machines that run them would tell.

use std::sync::Arc;

use async_trait::async_trait;
use trueup_model::facts::etcd::{EtcdFacts, EtcdMember};
use trueup_model::id::{Digest, NodeName};
use trueup_model::port::{Etcd, EtcdError};

use super::{Keeper, visit};
use crate::fleet::SimFleet;

/// etcd of the cluster that these servers make.
#[derive(Debug)]
pub struct SimEtcd {
    keeper: Arc<dyn Keeper>,
    servers: Vec<(NodeName, String)>,
}

impl SimEtcd {
    /// Servers by name and address, in the order in which they are asked.
    pub fn new(keeper: Arc<dyn Keeper>, servers: Vec<(NodeName, String)>) -> Self {
        Self { keeper, servers }
    }
}

/// The cluster of the first server that is up.
pub(super) fn cluster_of(fleet: &SimFleet, servers: &[(NodeName, String)]) -> Option<String> {
    servers
        .iter()
        .filter_map(|(_, address)| fleet.running(address))
        .filter(|machine| machine.k3s_up())
        .find_map(|machine| machine.member.as_ref())
        .map(|member| member.cluster.clone())
}

#[async_trait]
impl Etcd for SimEtcd {
    async fn members(&self) -> Result<EtcdFacts, EtcdError> {
        let node = self
            .servers
            .first()
            .map_or("no server", |(name, _)| name.as_str());
        let unreachable = |why: &str| EtcdError::Unreachable {
            node: node.to_owned(),
            why: why.to_owned(),
        };
        let facts = visit(&self.keeper, |fleet, _| {
            let id = cluster_of(fleet, &self.servers)?;
            let cluster = fleet.clusters.get(&id)?;
            let up = fleet.etcd_up(&id, None);
            let quorum = fleet.has_quorum(&id);
            let leader = up.first().copied().filter(|_| quorum);
            let members = cluster.members.iter().map(|(name, address)| EtcdMember {
                id: Digest::of(name.as_bytes())
                    .0
                    .get(..16)
                    .unwrap_or_default()
                    .to_owned(),
                name: name.clone(),
                peer_urls: vec![format!("https://{address}:2380")],
                learner: false,
                healthy: quorum && up.contains(&name.as_str()),
                leader: leader == Some(name.as_str()),
            });
            Some(EtcdFacts {
                members: members.collect(),
                alarms: Vec::new(),
            })
        });
        match facts {
            Ok(Some(facts)) => Ok(facts),
            Ok(None) => Err(unreachable("connection refused (simulated)")),
            Err(why) => Err(unreachable(&why)),
        }
    }
}
