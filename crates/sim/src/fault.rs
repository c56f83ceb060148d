//! Faults and other people: what happens to the fleet from outside.

use serde_json::Value;

use crate::cluster::Manager;
use crate::fleet::SimFleet;
use trueup_model::job::SystemctlVerb;

/// Something that happens from outside. More come as they are needed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Somebody writes a file on a machine.
    EditFile {
        /// Name of the machine.
        machine: String,
        /// Absolute path.
        path: String,
        /// The new content.
        content: String,
    },
    /// Somebody stops a unit.
    StopUnit {
        /// Name of the machine.
        machine: String,
        /// Unit with its suffix.
        unit: String,
    },
    /// Somebody changes a kernel setting.
    SetSysctl {
        /// Name of the machine.
        machine: String,
        /// Dotted name.
        key: String,
        /// Value.
        value: String,
    },
    /// `kubectl scale`.
    Scale {
        /// Namespace of the Deployment.
        namespace: String,
        /// Its name.
        name: String,
        /// Replicas.
        replicas: u32,
    },
    /// A machine loses its power.
    PowerOff {
        /// Name of the machine.
        machine: String,
    },
    /// It comes back.
    PowerOn {
        /// Name of the machine.
        machine: String,
    },
}

/// Why a fault cannot happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultError(pub String);

impl std::fmt::Display for FaultError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FaultError {}

impl SimFleet {
    /// Let a fault happen now.
    ///
    /// # Errors
    /// What it is to happen to does not exist.
    pub fn befall(&mut self, fault: &Fault, now_ms: i64) -> Result<(), FaultError> {
        self.advance(now_ms);
        match fault {
            Fault::EditFile {
                machine,
                path,
                content,
            } => {
                let address = self.address_of(machine)?;
                if let Some(machine) = self.machines.get_mut(&address) {
                    machine.write(path, content.as_bytes(), now_ms);
                }
                Ok(())
            }
            Fault::StopUnit { machine, unit } => {
                let address = self.address_of(machine)?;
                let stopped = self.machines.get_mut(&address).map_or(Ok(()), |machine| {
                    machine.control(SystemctlVerb::Stop, unit, now_ms)
                });
                stopped.map_err(FaultError)
            }
            Fault::SetSysctl {
                machine,
                key,
                value,
            } => {
                let address = self.address_of(machine)?;
                let setting = self
                    .machines
                    .get_mut(&address)
                    .and_then(|machine| machine.sysctls.get_mut(key));
                let setting = setting.ok_or_else(|| FaultError(format!("no setting {key}")))?;
                value.clone_into(setting);
                Ok(())
            }
            Fault::Scale {
                namespace,
                name,
                replicas,
            } => self.scale(namespace, name, *replicas, now_ms),
            Fault::PowerOff { machine } => {
                let address = self.address_of(machine)?;
                self.power_off(&address, now_ms);
                Ok(())
            }
            Fault::PowerOn { machine } => {
                let address = self.address_of(machine)?;
                self.power_on(&address, now_ms);
                Ok(())
            }
        }
    }

    fn address_of(&self, name: &str) -> Result<String, FaultError> {
        self.machines
            .iter()
            .find(|(_, machine)| machine.name == name)
            .map(|(address, _)| address.clone())
            .ok_or_else(|| FaultError(format!("there is no machine {name}")))
    }

    fn scale(
        &mut self,
        namespace: &str,
        name: &str,
        replicas: u32,
        now_ms: i64,
    ) -> Result<(), FaultError> {
        let key = (
            "apps".into(),
            "Deployment".into(),
            namespace.to_owned(),
            name.to_owned(),
        );
        let cluster = self
            .clusters
            .values_mut()
            .find(|cluster| cluster.objects.contains_key(&key))
            .ok_or_else(|| FaultError(format!("there is no Deployment {namespace}/{name}")))?;
        let manager = Manager::updating("kubectl", Some("scale"));
        cluster.update(&key, manager, now_ms, |json| {
            if let Some(live) = json.pointer_mut("/spec/replicas") {
                *live = Value::from(replicas);
            }
        });
        Ok(())
    }
}
