//! What one observation of a machine asks for.

use trueup_model::facts::machine::ProbeRequest;

use crate::desired::DesiredMachine;
use crate::paths;

/// Everything that a plan of this machine reads, in one request. `owned` are paths
/// of its ownership record that nothing declares any more.
pub fn probe_request(machine: &DesiredMachine, owned: &[String]) -> ProbeRequest {
    let mut request = ProbeRequest::default();
    for (path, (file, _)) in &machine.files {
        request.files.insert(path.clone(), !file.is_secret());
    }
    for path in owned {
        request.files.entry(path.clone()).or_insert(false);
    }
    request.sysctls.extend(machine.sysctls.keys().cloned());
    request.units.extend(machine.units.keys().cloned());
    // k3s is looked for on every machine: one that runs it unmanaged is not blank.
    for role in paths::UNITS {
        request.units.push(role.to_owned());
    }
    request.files.insert(paths::CONFIG_PATH.to_owned(), true);
    request.files.insert(paths::TOKEN_PATH.to_owned(), false);
    for path in paths::UNIT_PATHS {
        request.files.insert(path.to_owned(), true);
    }
    request
        .free
        .extend(["/usr/local/bin", "/var/lib", "/etc"].map(str::to_owned));
    request
}
