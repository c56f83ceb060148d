//! The fleet as one value, and how its time passes.

mod job;
mod k3s;
mod members;
mod power;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cluster::Cluster;
use crate::machine::Machine;

/// Form of the saved value; another one is not read.
const FORM: u32 = 1;
/// Events of one advance at most: a job has some ten operations.
const EVENTS_MAX: usize = 10_000;

/// A simulated fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SimFleet {
    /// Form of this value.
    pub form: u32,
    /// How slow things are, in percent of what they take here; 0: all at once.
    pub pace: u32,
    /// Counts what needs a name of its own (UIDs, invocations, boots).
    serial: u64,
    /// Machines by address.
    pub machines: BTreeMap<String, Machine>,
    /// Clusters that began here, by an id of their own.
    pub clusters: BTreeMap<String, Cluster>,
}

impl SimFleet {
    /// Blank machines, by name and address.
    pub fn blank<'a>(
        machines: impl IntoIterator<Item = (&'a str, &'a str)>,
        pace: u32,
        now_ms: i64,
    ) -> Self {
        let mut fleet = Self {
            form: FORM,
            pace,
            serial: 0,
            machines: BTreeMap::new(),
            clusters: BTreeMap::new(),
        };
        for (name, address) in machines {
            let id = fleet.unique();
            let machine = Machine::blank(name, &id, now_ms);
            fleet.machines.insert(address.to_owned(), machine);
        }
        fleet
    }

    /// A saved fleet.
    ///
    /// # Errors
    /// It is not one, or one of another form.
    pub fn from_json(json: &[u8]) -> Result<Self, String> {
        let fleet: Self = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        if fleet.form == FORM {
            Ok(fleet)
        } else {
            Err(format!("it has form {}, and {FORM} is read", fleet.form))
        }
    }

    /// The fleet, to be saved.
    ///
    /// # Errors
    /// Never, as far as is known: every key is a text.
    pub fn to_json(&self) -> Result<Vec<u8>, String> {
        serde_json::to_vec(self).map_err(|error| error.to_string())
    }

    /// 32 hexadecimal digits that never come twice.
    pub(crate) fn unique(&mut self) -> String {
        self.serial += 1;
        let digest = trueup_model::id::Digest::of(format!("trueup-sim {}", self.serial).as_bytes());
        digest.0.get(..32).unwrap_or_default().to_owned()
    }

    /// A UID as Kubernetes writes them.
    pub(crate) fn uid(&mut self) -> String {
        let id = self.unique();
        let part = |from: usize, to: usize| id.get(from..to).unwrap_or_default().to_owned();
        format!(
            "{}-{}-4{}-a{}-{}",
            part(0, 8),
            part(8, 12),
            part(13, 16),
            part(17, 20),
            part(20, 32)
        )
    }

    /// What takes `ms` takes here.
    pub(crate) fn takes(&self, ms: i64) -> i64 {
        ms * i64::from(self.pace) / 100
    }

    /// Let the time pass up to `now_ms`: jobs and controllers do what was due, in the
    /// order in which it was.
    pub fn advance(&mut self, now_ms: i64) {
        for _ in 0..EVENTS_MAX {
            let due = self
                .machines
                .iter()
                .filter_map(|(address, machine)| Some((machine.next_ms()?, address.clone())))
                .filter(|(at, _)| *at <= now_ms)
                .min();
            let Some((at, address)) = due else { break };
            self.step_job(&address, at, now_ms);
        }
        let ids: Vec<String> = self.clusters.keys().cloned().collect();
        for id in ids {
            self.control(&id, now_ms);
        }
    }

    /// The machine of this address, if it is there and has power.
    pub(crate) fn running(&self, address: &str) -> Option<&Machine> {
        self.machines.get(address).filter(|machine| machine.power)
    }
}
