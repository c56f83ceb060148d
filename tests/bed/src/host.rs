//! Settings of the test host that a test can't do without, put back when the run ends.

use std::fs;

use anyhow::{Context, Result};

use crate::run::Ledger;

/// The kubelet refuses to start on other values, and they belong to no namespace.
const KUBELET_WANTS: [(&str, &str); 3] = [
    ("/proc/sys/vm/overcommit_memory", "1"),
    ("/proc/sys/kernel/panic", "10"),
    ("/proc/sys/kernel/panic_on_oops", "1"),
];

/// Sets what the kubelet wants. Only for a run that holds the lock of
/// [`crate::BedSpec::alone`]: two runs would each take the other's values for the host's own.
pub(crate) fn suit_kubelet(ledger: &Ledger) -> Result<()> {
    for (path, wanted) in KUBELET_WANTS {
        let before = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
        if before.trim() != wanted {
            ledger.sysctl(path, before.trim())?;
            fs::write(path, wanted).with_context(|| format!("cannot set {path}"))?;
        }
    }
    Ok(())
}
