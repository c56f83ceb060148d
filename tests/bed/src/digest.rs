//! What a machine's disk holds over the shared tree, in a form that two moments
//! can be compared by: for "a plan changes nothing" and "the same state as before".

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// What a machine writes by itself: logs, run-time state, who logged in, random seeds.
pub const RESTLESS: [&str; 8] = [
    "/run",
    "/tmp",
    "/var/tmp",
    "/var/log",
    "/var/lib/systemd/random-seed",
    "/var/lib/systemd/timers",
    "/var/lib/systemd/linger",
    "/var/lib/private",
];

/// Path inside the machine -> type, mode, owner and content of everything on the upper directory.
///
/// Times are left out: looking at a folder with a temporary file in it would change them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeDigest {
    pub entries: BTreeMap<String, String>,
}

impl TreeDigest {
    /// `roots`: host directory -> where it is in the machine. Paths at or below `exclude` are skipped.
    pub fn of(roots: &[(&Path, &str)], exclude: &[&str]) -> Result<Self> {
        let mut entries = BTreeMap::new();
        for (dir, inside) in roots {
            walk(dir, inside.trim_end_matches('/'), exclude, &mut entries)?;
        }
        Ok(Self { entries })
    }

    /// Lines `+ path`, `- path`, `~ path`: what another digest has more, less or otherwise.
    pub fn changes_to(&self, later: &Self) -> Vec<String> {
        let gone = self
            .entries
            .keys()
            .filter(|path| !later.entries.contains_key(*path))
            .map(|path| format!("- {path}"));
        let rest = later
            .entries
            .iter()
            .filter_map(|(path, entry)| match self.entries.get(path) {
                None => Some(format!("+ {path}")),
                Some(before) if before != entry => Some(format!("~ {path}")),
                Some(_) => None,
            });
        gone.chain(rest).collect()
    }
}

fn walk(
    dir: &Path,
    inside: &str,
    exclude: &[&str],
    entries: &mut BTreeMap<String, String>,
) -> Result<()> {
    let listing = fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    for entry in listing {
        let entry = entry?;
        let path = format!("{inside}/{}", entry.file_name().to_string_lossy());
        let excluded = |skip: &&str| {
            path == **skip || path.starts_with(&format!("{}/", skip.trim_end_matches('/')))
        };
        if exclude.iter().any(excluded) {
            continue;
        }
        // A running machine removes files while we look: gone is gone.
        let Ok(line) = describe(&entry.path()) else {
            continue;
        };
        entries.insert(path.clone(), line);
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), &path, exclude, entries)?;
        }
    }
    Ok(())
}

fn describe(path: &Path) -> Result<String> {
    let metadata = fs::symlink_metadata(path)?;
    let kind = metadata.file_type();
    let content = if kind.is_file() {
        format!("file {}", hex(&Sha256::digest(fs::read(path)?)))
    } else if kind.is_symlink() {
        format!("link {}", fs::read_link(path)?.display())
    } else if kind.is_char_device() && metadata.rdev() == 0 {
        "deleted".to_owned()
    } else if kind.is_dir() {
        "folder".to_owned()
    } else {
        format!("special {:?} {}", kind, metadata.rdev())
    };
    Ok(format!(
        "{:o} {}:{} {content}",
        metadata.mode(),
        metadata.uid(),
        metadata.gid()
    ))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
