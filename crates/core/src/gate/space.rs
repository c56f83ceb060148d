//! Space: a machine without room is not written to. Half-written is never possible
//! (the sibling is renamed), but a full disk breaks what runs there.

use trueup_model::step::{Action, Step};

use super::{Case, Hold};

/// Room that must stay free beside what is written: logs and etcd go on growing.
const KEEP_FREE_BYTES: u64 = 16 * 1024 * 1024;
/// k3s' binary is about 75 MB, and the old one stays until the rename.
const K3S_BYTES: u64 = 80 * 1024 * 1024;

pub(super) fn judge(case: &Case<'_>) -> Option<Hold> {
    let machine = case.step.target.machine()?;
    let facts = case.seen.machine(machine)?;
    let (path, bytes) = need(case.step)?;
    let free = facts.free_bytes.get(path)?;
    (*free < bytes).then(|| {
        Hold::wait(
            "space",
            format!(
                "{machine} has {} MiB free at {path}, {} MiB are needed",
                free / (1024 * 1024),
                bytes / (1024 * 1024)
            ),
        )
    })
}

fn need(step: &Step) -> Option<(&'static str, u64)> {
    match &step.action {
        Action::InstallK3s { .. } => Some(("/usr/local/bin", KEEP_FREE_BYTES + K3S_BYTES)),
        Action::WriteFile { file, .. } if file.path.starts_with("/etc/") => {
            Some(("/etc", 1024 * 1024))
        }
        Action::StartK3s { .. } | Action::RestartK3s { .. } => Some(("/var/lib", KEEP_FREE_BYTES)),
        _ => None,
    }
}
