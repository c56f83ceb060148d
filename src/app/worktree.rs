//! The files of a folder as they are now: for `validate PATH`, and for nothing else. Links are
//! never followed, dot folders never entered.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::OFlags;
use trueup_model::tree::{BYTES_MAX, ENTRIES_MAX, FILE_BYTES_MAX, Tree, TreeEntry};

/// Folders within folders; no repository comes near it.
const DEPTH_MAX: usize = 64;

/// Why a folder cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorktreeError {
    /// The system says no.
    #[error("cannot read {path}")]
    Read {
        /// Where.
        path: Utf8PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A limit is exceeded.
    #[error("{path} holds more than {limit} {what}")]
    TooLarge {
        /// Where.
        path: Utf8PathBuf,
        /// The limit.
        limit: usize,
        /// Of what.
        what: &'static str,
    },
}

/// The folder to read for a path that somebody named: the nearest folder at or above it that has a
/// Fleet, else the folder itself (the Fleets may lie below).
///
/// # Errors
/// The path does not exist or cannot be read.
pub(crate) fn fleet_root(path: &Utf8Path) -> Result<Utf8PathBuf, WorktreeError> {
    let read = |source| WorktreeError::Read {
        path: path.to_owned(),
        source,
    };
    let path = path.canonicalize_utf8().map_err(read)?;
    let folder = if path.is_dir() {
        path.as_path()
    } else {
        path.parent().unwrap_or(&path)
    };
    let above = folder
        .ancestors()
        .take(DEPTH_MAX)
        .find(|folder| holds_fleet(folder));
    Ok(above.unwrap_or(folder).to_owned())
}

/// Whether a document of kind Fleet stands directly in a folder. A look at the text is enough: the
/// loader decides what it is.
fn holds_fleet(folder: &Utf8Path) -> bool {
    let Ok(entries) = folder.read_dir_utf8() else {
        return false;
    };
    entries.flatten().take(ENTRIES_MAX).any(|entry| {
        let file = entry.file_type().is_ok_and(|kind| kind.is_file());
        let read = || read_file(entry.path()).ok().flatten();
        file && Tree::wants(entry.file_name())
            && read().is_some_and(|bytes| {
                let text = String::from_utf8_lossy(&bytes);
                text.contains("trueup.dev/") && text.contains("Fleet")
            })
    })
}

/// Reads a folder.
///
/// # Errors
/// Something in it cannot be read, or a limit is exceeded.
pub(crate) fn read(root: &Utf8Path) -> Result<Tree, WorktreeError> {
    let mut reading = Reading {
        root,
        tree: Tree::default(),
        bytes: 0,
    };
    reading.folder(root, 0)?;
    Ok(reading.tree)
}

struct Reading<'a> {
    root: &'a Utf8Path,
    tree: Tree,
    bytes: usize,
}

impl Reading<'_> {
    fn folder(&mut self, folder: &Utf8Path, depth: usize) -> Result<(), WorktreeError> {
        if depth > DEPTH_MAX {
            return Err(self.too_large(DEPTH_MAX, "folders within each other"));
        }
        let fault = |source| WorktreeError::Read {
            path: folder.to_owned(),
            source,
        };
        for entry in fs::read_dir(folder).map_err(fault)? {
            let entry = entry.map_err(fault)?;
            let Ok(name) = entry.file_name().into_string() else {
                let name = entry.file_name();
                let shown = folder.join(name.to_string_lossy().as_ref());
                self.tree.odd_names.push(self.relative(&shown));
                continue;
            };
            if name.starts_with('.') {
                continue;
            }
            self.entry(&folder.join(name), depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &Utf8Path, depth: usize) -> Result<(), WorktreeError> {
        let fault = |source| WorktreeError::Read {
            path: path.to_owned(),
            source,
        };
        let metadata = fs::symlink_metadata(path).map_err(fault)?;
        if metadata.is_dir() {
            return self.folder(path, depth + 1);
        }
        if self.tree.entries.len() >= ENTRIES_MAX {
            return Err(self.too_large(ENTRIES_MAX, "files"));
        }
        let relative = self.relative(path);
        let entry = if metadata.is_symlink() {
            TreeEntry::Symlink
        } else if !metadata.is_file() {
            TreeEntry::Other
        } else if Tree::wants(&relative) {
            match read_file(path).map_err(fault)? {
                Some(bytes) => {
                    self.bytes += bytes.len();
                    if self.bytes > BYTES_MAX {
                        return Err(self.too_large(BYTES_MAX, "bytes of documents"));
                    }
                    TreeEntry::File(bytes.into())
                }
                None => TreeEntry::Unread {
                    bytes: metadata.len(),
                },
            }
        } else {
            TreeEntry::Unread {
                bytes: metadata.len(),
            }
        };
        self.tree.entries.insert(relative, entry);
        Ok(())
    }

    fn relative(&self, path: &Utf8Path) -> String {
        path.strip_prefix(self.root).unwrap_or(path).to_string()
    }

    fn too_large(&self, limit: usize, what: &'static str) -> WorktreeError {
        WorktreeError::TooLarge {
            path: self.root.to_owned(),
            limit,
            what,
        }
    }
}

/// The content of a file, unless it is too large. A link or pipe put there meanwhile is not opened.
fn read_file(path: &Utf8Path) -> std::io::Result<Option<Vec<u8>>> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    let file: File = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    let mut bytes = Vec::new();
    let max = u64::try_from(FILE_BYTES_MAX).unwrap_or(u64::MAX);
    file.take(max + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= FILE_BYTES_MAX).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use camino::Utf8PathBuf;
    use trueup_model::tree::TreeEntry;

    use super::{fleet_root, read};

    #[test]
    fn links_are_seen_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(folder.path().canonicalize().unwrap()).unwrap();
        std::fs::create_dir_all(root.join("fleet/deep/.git")).unwrap();
        std::fs::write(
            root.join("fleet/f.yaml"),
            "apiVersion: trueup.dev/x\nkind: Fleet",
        )
        .unwrap();
        std::fs::write(root.join("fleet/deep/a.yaml"), "a: 1").unwrap();
        std::fs::write(root.join("fleet/deep/.git/b.yaml"), "b: 1").unwrap();
        std::os::unix::fs::symlink("/", root.join("fleet/up")).unwrap();
        std::os::unix::fs::symlink("a.yaml", root.join("fleet/deep/link.yaml")).unwrap();
        assert_eq!(
            fleet_root(&root.join("fleet/deep/a.yaml")).unwrap(),
            root.join("fleet")
        );
        assert_eq!(fleet_root(&root).unwrap(), root);
        assert!(fleet_root(&root.join("gone")).is_err());
        let tree = read(&root.join("fleet")).unwrap();
        let paths: Vec<_> = tree.entries.keys().map(String::as_str).collect();
        assert_eq!(paths, ["deep/a.yaml", "deep/link.yaml", "f.yaml", "up"]);
        assert_eq!(tree.entries["up"], TreeEntry::Symlink);
        assert_eq!(tree.entries["deep/link.yaml"], TreeEntry::Symlink);
        assert_eq!(
            tree.entries["deep/a.yaml"],
            TreeEntry::File(b"a: 1"[..].into())
        );
    }
}
