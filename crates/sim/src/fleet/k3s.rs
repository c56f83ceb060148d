//! k3s' process among its like: a server begins a cluster, joins one or comes back to it,
//! an agent joins; and when each is ready. Source of the behaviour: k3s 1.36 as
//! `tests/k3s-double/BEHAVIOUR.md` has it.

use serde_json::Value;
use trueup_model::id::Digest;
use trueup_model::job::SystemctlVerb;

use super::SimFleet;
use crate::cluster::Registration;
use crate::machine::{Active, Member, SERVICES, Start, Started};

impl SimFleet {
    /// `systemctl start|restart`. `waiting`: it was begun before and was not ready.
    pub(crate) fn start_unit(
        &mut self,
        address: &str,
        name: &str,
        verb: SystemctlVerb,
        waiting: bool,
        now_ms: i64,
    ) -> Started {
        let invocation = self.unique();
        let Some(machine) = self.machines.get_mut(address) else {
            return Started::Failed("the machine is gone".to_owned());
        };
        let running = machine.unit(name).active == Active::Up;
        if running && (verb == SystemctlVerb::Start || waiting) {
            return Started::Ready;
        }
        if !SERVICES.contains(&name) {
            return machine.start_plain(name, &invocation, now_ms);
        }
        if !machine.exists(name) {
            return Started::Failed(format!("Unit {name} could not be found."));
        }
        let loaded = machine.fragment(name).map(|(_, text)| Digest::of(text));
        let unit = machine.units.entry(name.to_owned()).or_default();
        if !waiting {
            unit.invocation = invocation;
            unit.started_s = now_ms / 1000;
            unit.restarts = 0;
            unit.loaded = loaded;
            unit.stopped_ms = now_ms;
        }
        let started = match machine.k3s_start(name) {
            Ok(start) => self.bring_up(address, &start, now_ms),
            Err(why) => Started::Failed(why),
        };
        let unit = self
            .machines
            .get_mut(address)
            .map(|machine| machine.units.entry(name.to_owned()).or_default());
        if let Some(unit) = unit {
            match &started {
                Started::Ready => {
                    unit.active = Active::Up;
                    unit.result.clear();
                }
                Started::Waits(_) => unit.active = Active::Activating,
                // Restart=always: systemd goes on trying.
                Started::Failed(_) => {
                    unit.active = Active::Activating;
                    "exit-code".clone_into(&mut unit.result);
                    unit.restarts += 1;
                }
            }
        }
        started
    }

    /// Services that are not up try again, as systemd and k3s do by themselves.
    pub(crate) fn retry_services(&mut self, now_ms: i64) {
        let stuck: Vec<(String, &str)> = self
            .machines
            .iter()
            .filter(|(_, machine)| machine.power && machine.current_job().is_none())
            .flat_map(|(address, machine)| {
                let names = SERVICES.into_iter();
                names
                    .filter(|name| machine.unit(name).active == Active::Activating)
                    .map(|name| (address.clone(), name))
            })
            .collect();
        for (address, name) in stuck {
            let _retried = self.start_unit(&address, name, SystemctlVerb::Start, true, now_ms);
        }
    }

    fn bring_up(&mut self, address: &str, start: &Start, now_ms: i64) -> Started {
        let member = self
            .machines
            .get(address)
            .and_then(|machine| machine.member.clone());
        let entered = match member {
            Some(member) => self.come_back(address, start, &member),
            None if start.server => self.enter_server(address, start),
            None => self.enter_agent(start).map(|cluster| Member {
                cluster,
                etcd: None,
            }),
        };
        let member = match entered {
            Ok(member) => member,
            Err(started) => return started,
        };
        let Some(machine) = self.machines.get_mut(address) else {
            return Started::Failed("the machine is gone".to_owned());
        };
        machine.member = Some(member.clone());
        let host = machine.name.clone();
        let registration = Registration {
            name: start.text("node-name").map_or(host.clone(), str::to_owned),
            host,
            address: address.to_owned(),
            version: start.version.clone(),
            server: start.server,
            labels: start.list("node-label"),
            taints: start.list("node-taint"),
        };
        self.register(&member.cluster, &registration, now_ms);
        Started::Ready
    }

    /// A machine with data of its cluster. A server needs the token that its data is
    /// encrypted with, and a quorum beside it; an agent any server.
    fn come_back(&self, address: &str, start: &Start, member: &Member) -> Result<Member, Started> {
        let Some(cluster) = self.clusters.get(&member.cluster) else {
            return Err(Started::Failed("its datastore is damaged".to_owned()));
        };
        if start.server {
            if cluster.token != start.token {
                return Err(Started::Failed(
                    "bootstrap data already found and encrypted with different token".to_owned(),
                ));
            }
            let voters = cluster.members.len();
            let others = self.etcd_up(&member.cluster, Some(address)).len();
            if others + 1 < voters / 2 + 1 {
                return Err(Started::Waits(
                    "Failed to test etcd connection: context deadline exceeded".to_owned(),
                ));
            }
        } else if !self.has_quorum(&member.cluster) {
            return Err(Started::Waits(
                "Failed to validate connection to cluster: connection refused".to_owned(),
            ));
        }
        Ok(member.clone())
    }

    fn enter_server(&mut self, address: &str, start: &Start) -> Result<Member, Started> {
        let node = start.text("node-name").unwrap_or_default().to_owned();
        let etcd = format!("{node}-{}", self.unique().get(..8).unwrap_or_default());
        let Some(url) = start.text("server") else {
            if start.options.get("cluster-init") != Some(&Value::Bool(true)) {
                return Err(Started::Failed(
                    "a server without cluster-init keeps its data in SQLite, which is not simulated"
                        .to_owned(),
                ));
            }
            let cluster = self.begin_cluster(start.token.clone(), start.critical());
            self.add_member(&cluster, &etcd, address);
            let etcd = Some(etcd);
            return Ok(Member { cluster, etcd });
        };
        let id = self.at_url(url).map_err(Started::Failed)?;
        let Some(cluster) = self.clusters.get(&id) else {
            return Err(Started::Failed(format!("no cluster at {url}")));
        };
        if cluster.token != start.token {
            return Err(Started::Failed(
                "failed to get CA certs: not authorized".to_owned(),
            ));
        }
        if cluster.critical != start.critical() {
            return Err(Started::Failed(
                "failed to validate server configuration: critical configuration value mismatch between servers"
                    .to_owned(),
            ));
        }
        let prefix = format!("{node}-");
        if cluster
            .members
            .iter()
            .any(|(name, _)| name.starts_with(&prefix))
        {
            return Err(Started::Failed(
                "etcd cluster join failed: duplicate node name found, please use a unique name for this node"
                    .to_owned(),
            ));
        }
        self.add_member(&id, &etcd, address);
        Ok(Member {
            cluster: id,
            etcd: Some(etcd),
        })
    }

    /// An agent never exits for a server that does not answer: it waits.
    fn enter_agent(&self, start: &Start) -> Result<String, Started> {
        let Some(url) = start.text("server") else {
            return Err(Started::Failed("--server is required".to_owned()));
        };
        let id = self.at_url(url).map_err(Started::Waits)?;
        match self.clusters.get(&id) {
            Some(cluster) if cluster.token == start.token => Ok(id),
            Some(_) | None => Err(Started::Waits(
                "Waiting to retrieve agent configuration; server is not ready: not authorized"
                    .to_owned(),
            )),
        }
    }

    /// The cluster whose server answers at a URL.
    fn at_url(&self, url: &str) -> Result<String, String> {
        let host = url.trim_start_matches("https://");
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
        let down = || format!("failed to get CA certs: Get \"{url}/cacerts\": connection refused");
        let machine = self
            .running(host)
            .filter(|machine| machine.k3s_up())
            .ok_or_else(down)?;
        match &machine.member {
            Some(member) if member.etcd.is_some() && self.has_quorum(&member.cluster) => {
                Ok(member.cluster.clone())
            }
            Some(_) | None => Err(down()),
        }
    }
}
