//! What a git that was killed leaves in a mirror: lock files, which would block a ref
//! for ever, and reports. The mirror is ours alone (the state directory is locked).

use std::fs;
use std::io;
use std::time::{Duration, SystemTime};

use camino::Utf8Path;

/// git holds its lock files for milliseconds. One that is older was left by a git
/// that was killed, and would block that ref for ever.
pub(super) const LOCK_AGE_MAX: Duration = Duration::from_secs(10);
/// Folders below `refs` that are searched for locks, at most so deep.
const LOCK_DEPTH_MAX: u32 = 8;

/// Removes what a killed git left behind: lock files, and the reports of
/// fast-import, which hold whole notes.
pub(crate) fn clear_leftovers(dir: &Utf8Path) {
    for name in [
        "HEAD.lock",
        "config.lock",
        "packed-refs.lock",
        "shallow.lock",
    ] {
        remove_if_stale(&dir.join(name));
    }
    clear_below(&dir.join("refs"), 0);
    for entry in dir.read_dir_utf8().into_iter().flatten().flatten() {
        if entry.file_name().starts_with("fast_import_crash_") {
            // It costs space, nothing else.
            drop(fs::remove_file(entry.path()));
        }
    }
}

fn clear_below(folder: &Utf8Path, depth: u32) {
    let Ok(entries) = folder.read_dir_utf8() else {
        return;
    };
    for entry in entries.flatten() {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && depth < LOCK_DEPTH_MAX {
            clear_below(entry.path(), depth + 1);
        } else if entry.path().extension() == Some("lock") {
            remove_if_stale(entry.path());
        }
    }
}

fn remove_if_stale(lock: &Utf8Path) {
    let age = |lock: &Utf8Path| -> io::Result<Duration> {
        let made = fs::metadata(lock)?.modified()?;
        Ok(SystemTime::now().duration_since(made).unwrap_or_default())
    };
    if age(lock).is_ok_and(|age| age >= LOCK_AGE_MAX) {
        // Where that fails, git says so at its next write.
        drop(fs::remove_file(lock));
        tracing::warn!(%lock, "removed a lock that a killed git left behind");
    }
}
