//! Space: a machine without room is not written to. Half-written is never possible
//! (the sibling is renamed), but a full disk breaks what runs there.

use trueup_model::step::{Action, Content, Step};

use super::{Case, Hold};

/// Room that must stay free beside what is written: logs and etcd go on growing.
const KEEP_FREE_BYTES: u64 = 16 * 1024 * 1024;
/// k3s' binary is about 75 MB, and the old one stays until the rename.
const K3S_BYTES: u64 = 80 * 1024 * 1024;

pub(super) fn judge(case: &Case<'_>) -> Option<Hold> {
    let machine = case.step.target.machine()?;
    let facts = case.seen.machine(machine)?;
    let (path, bytes, free) = needs(case.step)
        .into_iter()
        .filter_map(|(path, bytes)| Some((path, bytes, *facts.free_bytes.get(path)?)))
        .find(|(_, bytes, free)| free < bytes)?;
    Some(Hold::wait(
        "space",
        format!(
            "{machine} has {} MiB free at {path}, {} MiB are needed",
            free / (1024 * 1024),
            bytes / (1024 * 1024)
        ),
    ))
}

/// The room that a step takes, by the place where it takes it.
fn needs(step: &Step) -> Vec<(&'static str, u64)> {
    const BINARY: (&str, u64) = ("/usr/local/bin", KEEP_FREE_BYTES + K3S_BYTES);
    match &step.action {
        Action::InstallK3s { .. } => vec![BINARY],
        Action::WriteFile { file, .. } if file.path.starts_with("/etc/") => {
            vec![("/etc", 1024 * 1024)]
        }
        // An upgrade brings the binary with the restart: a disk that cannot take it is
        // found before the server is stopped.
        Action::StartK3s { files, .. } | Action::RestartK3s { files, .. } => {
            let binary = files
                .iter()
                .any(|file| matches!(file.content, Content::K3sBinary(_)));
            let mut needs = vec![("/var/lib", KEEP_FREE_BYTES)];
            needs.extend(binary.then_some(BINARY));
            needs
        }
        _ => Vec::new(),
    }
}
