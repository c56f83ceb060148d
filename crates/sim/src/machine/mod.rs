//! A machine: its files, kernel settings, systemd and jobs.

mod file;
mod job;
mod k3s;
mod probe;
pub(crate) mod sysctl;
mod unit;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use trueup_model::facts::machine::Datastore;
use trueup_model::id::{Claim, Digest};

pub(crate) use file::{SimFile, Stored};
pub(crate) use job::{End, Job, failed};
pub(crate) use k3s::{SERVICES, Start};
pub(crate) use probe::BINARY;
pub(crate) use unit::{Active, Started, Unit};

/// What `df` says of each place.
const FREE_BYTES: u64 = 8 << 30;

/// A simulated machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Its host name.
    pub name: String,
    /// It has power.
    pub power: bool,
    pub(crate) machine_id: String,
    pub(crate) boot: String,
    pub(crate) files: BTreeMap<String, SimFile>,
    pub(crate) sysctls: BTreeMap<String, String>,
    pub(crate) units: BTreeMap<String, Unit>,
    pub(crate) owner: Owner,
    /// Bytes that wait beside their place, by job and path.
    pub(crate) staged: BTreeMap<String, BTreeMap<String, Stored>>,
    pub(crate) jobs: BTreeMap<String, Job>,
    /// The cluster whose data or registration it holds.
    pub(crate) member: Option<Member>,
    /// Free bytes of its disk.
    pub free_bytes: u64,
}

/// What k3s left in its data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    /// The cluster's id.
    pub(crate) cluster: String,
    /// Name of its etcd member; `None` on an agent.
    pub(crate) etcd: Option<String>,
}

/// `/var/lib/trueup/owner`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub(crate) claim: Option<Claim>,
    pub(crate) files: BTreeMap<String, Digest>,
    pub(crate) runs: BTreeMap<String, (String, Digest)>,
}

impl Machine {
    pub(crate) fn blank(name: &str, id: &str, now_ms: i64) -> Self {
        let mut machine = Self {
            name: name.to_owned(),
            power: true,
            machine_id: id.to_owned(),
            boot: format!("{id} 1"),
            files: BTreeMap::new(),
            sysctls: sysctl::defaults(),
            units: BTreeMap::new(),
            owner: Owner::default(),
            staged: BTreeMap::new(),
            jobs: BTreeMap::new(),
            member: None,
            free_bytes: FREE_BYTES,
        };
        machine.write("/etc/hostname", format!("{name}\n").as_bytes(), now_ms);
        for unit in unit::BUILT_IN {
            let unit_state = Unit::running(&format!("{id}-{unit}"), now_ms);
            machine.units.insert((*unit).to_owned(), unit_state);
        }
        machine
    }

    /// Write a file as root would, over what is there.
    pub(crate) fn write(&mut self, path: &str, bytes: &[u8], now_ms: i64) {
        let mode = self
            .files
            .get(path)
            .map_or_else(|| "0644".to_owned(), |file| file.mode.clone());
        self.files.insert(
            path.to_owned(),
            SimFile {
                content: Stored::of(bytes),
                mode,
                owner: "root".to_owned(),
                group: "root".to_owned(),
                mtime_s: now_ms / 1000,
            },
        );
    }

    pub(crate) fn datastore(&self) -> Datastore {
        match &self.member {
            Some(Member { etcd: Some(_), .. }) => Datastore::Etcd,
            Some(Member { etcd: None, .. }) | None => Datastore::None,
        }
    }

    /// Its state of a unit, as systemd would load it.
    pub(crate) fn unit(&self, name: &str) -> Unit {
        self.units.get(name).cloned().unwrap_or_default()
    }

    /// When the next thing happens here by itself.
    pub(crate) fn next_ms(&self) -> Option<i64> {
        if !self.power {
            return None;
        }
        self.current_job().map(|(_, job)| job.next_ms)
    }

    /// The job that holds the machine's lock: the oldest that has not ended.
    pub(crate) fn current_job(&self) -> Option<(&String, &Job)> {
        self.jobs
            .iter()
            .filter(|(_, job)| job.code.is_none() && job.boot == self.boot)
            .min_by_key(|(_, job)| job.serial)
    }
}
