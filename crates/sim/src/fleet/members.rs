//! Clusters and the machines that make them: members, quorum, Nodes, controllers.

use std::collections::BTreeMap;

use trueup_model::id::Digest;

use super::SimFleet;
use crate::cluster::{Cluster, Registration};
use crate::machine::{Active, SERVICES};

/// A Node whose machine is silent turns NotReady after so many milliseconds (the
/// controller's grace period is 40 s; here a person waits for it).
const GRACE_MS: i64 = 4000;
/// A rollout takes so long at the pace of 100.
const ROLLOUT_MS: i64 = 1200;

impl SimFleet {
    pub(crate) fn begin_cluster(
        &mut self,
        token: Digest,
        critical: BTreeMap<String, String>,
    ) -> String {
        let id = self.unique();
        let uids: Vec<String> = (0..4).map(|_| self.uid()).collect();
        let cluster = Cluster::begin(token, critical, &uids);
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

    /// k3s came up: its Node is registered, or brought up to date.
    pub(crate) fn register(&mut self, cluster: &str, of: &Registration, now_ms: i64) {
        let uid = self.uid();
        let Some(cluster) = self.clusters.get_mut(cluster) else {
            return;
        };
        cluster.register(of, uid, now_ms);
        self.refresh_nodes(now_ms);
    }

    /// Conditions of all Nodes, by what their machines do.
    pub(crate) fn refresh_nodes(&mut self, now_ms: i64) {
        let mut states = Vec::new();
        for machine in self.machines.values() {
            let Some(member) = &machine.member else {
                continue;
            };
            let silent_ms = SERVICES
                .iter()
                .map(|name| machine.unit(name))
                .filter(|unit| unit.started_s > 0)
                .map(|unit| now_ms - unit.stopped_ms)
                .min()
                .unwrap_or(i64::MAX);
            let starting = SERVICES
                .iter()
                .any(|name| machine.power && machine.unit(name).active == Active::Up);
            let ready = starting || silent_ms < GRACE_MS;
            states.push((
                member.cluster.clone(),
                machine.name.clone(),
                ready,
                member.etcd.is_some(),
            ));
        }
        for (cluster, name, ready, voter) in states {
            if let Some(cluster) = self.clusters.get_mut(&cluster) {
                cluster.set_conditions(&name, ready, voter, now_ms);
            }
        }
    }

    /// Let the controllers of a cluster act.
    pub(crate) fn control(&mut self, id: &str, now_ms: i64) {
        self.retry_services(now_ms);
        self.refresh_nodes(now_ms);
        if !self.has_quorum(id) {
            return;
        }
        let takes = self.takes(ROLLOUT_MS);
        if let Some(cluster) = self.clusters.get_mut(id) {
            cluster.reconcile(now_ms, takes);
        }
    }
}
