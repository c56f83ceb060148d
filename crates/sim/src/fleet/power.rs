//! Power: a machine without it forgets what ran, and begins anew when it comes back.

use trueup_model::job::SystemctlVerb;

use super::SimFleet;
use crate::machine::{Active, sysctl};

impl SimFleet {
    pub(crate) fn power_off(&mut self, address: &str, now_ms: i64) {
        let Some(machine) = self.machines.get_mut(address) else {
            return;
        };
        machine.power = false;
        machine.staged.clear();
        for unit in machine.units.values_mut() {
            if unit.active != Active::Inactive {
                unit.stopped_ms = now_ms;
            }
            unit.active = Active::Inactive;
        }
    }

    pub(crate) fn power_on(&mut self, address: &str, now_ms: i64) {
        let boot = self.unique();
        let Some(machine) = self.machines.get_mut(address) else {
            return;
        };
        if machine.power {
            return;
        }
        machine.power = true;
        machine.boot = format!("{boot} 1");
        machine.sysctls = sysctl::defaults();
        let kept: Vec<String> = machine
            .files
            .iter()
            .filter(|(path, _)| path.starts_with("/etc/sysctl.d/") && path.ends_with(".conf"))
            .map(|(_, file)| String::from_utf8_lossy(file.content.bytes()).into_owned())
            .collect();
        for text in &kept {
            for (key, value) in sysctl::lines(text) {
                if let Some(live) = machine.sysctls.get_mut(key) {
                    value.clone_into(live);
                }
            }
        }
        let enabled: Vec<String> = machine
            .units
            .iter()
            .filter(|(_, unit)| unit.enabled)
            .map(|(name, _)| name.clone())
            .collect();
        for name in enabled {
            let _started = self.start_unit(address, &name, SystemctlVerb::Start, false, now_ms);
        }
    }
}
