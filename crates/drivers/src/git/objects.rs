//! The files of one commit, out of trueup's own mirror. The mirror is whole and of the format that
//! libgit2 reads, so no process is needed; for anybody else's clone there is [`super::batch`].

use camino::{Utf8Path, Utf8PathBuf};
use git2::{ObjectType, Odb, Oid, Repository, Tree as GitTree};
use trueup_model::tree::{BYTES_MAX, ENTRIES_MAX, FILE_BYTES_MAX, Tree, TreeEntry};

/// Folders within folders; no repository comes near it.
const DEPTH_MAX: usize = 64;

/// Why the files of a commit cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    /// The object database cannot be read, or lacks what the commit names.
    #[error("cannot read commit {rev} in {dir}")]
    Git {
        /// The mirror.
        dir: Utf8PathBuf,
        /// The commit.
        rev: String,
        /// What libgit2 says.
        #[source]
        source: git2::Error,
    },
    /// A limit is exceeded.
    #[error("the commit holds more than {limit} {what}")]
    TooLarge {
        /// The limit.
        limit: usize,
        /// Of what.
        what: &'static str,
    },
}

/// Reads all files of a commit in the mirror at `dir`. Blocks for as long as the disk does: tens of
/// milliseconds for a thousand files.
///
/// # Errors
/// The commit or an object of it cannot be read, or a limit is exceeded.
pub fn read_tree(dir: &Utf8Path, rev: &str) -> Result<Tree, ObjectsError> {
    let fault = |source| ObjectsError::Git {
        dir: dir.to_owned(),
        rev: rev.to_owned(),
        source,
    };
    let repository = Repository::open_bare(dir).map_err(fault)?;
    let root = repository
        .revparse_single(rev)
        .and_then(|object| object.peel_to_commit())
        .and_then(|commit| commit.tree())
        .map_err(fault)?;
    let odb = repository.odb().map_err(fault)?;
    let mut reading = Reading {
        repository: &repository,
        odb,
        tree: Tree::default(),
        bytes: 0,
    };
    reading.folder("", &root, 0).map_err(|stop| match stop {
        Stop::Git(source) => fault(source),
        Stop::TooLarge(limit, what) => ObjectsError::TooLarge { limit, what },
    })?;
    Ok(reading.tree)
}

enum Stop {
    Git(git2::Error),
    TooLarge(usize, &'static str),
}

impl From<git2::Error> for Stop {
    fn from(error: git2::Error) -> Self {
        Self::Git(error)
    }
}

struct Reading<'a> {
    repository: &'a Repository,
    odb: Odb<'a>,
    tree: Tree,
    bytes: usize,
}

impl Reading<'_> {
    fn folder(&mut self, folder: &str, tree: &GitTree<'_>, depth: usize) -> Result<(), Stop> {
        if depth > DEPTH_MAX {
            return Err(Stop::TooLarge(DEPTH_MAX, "folders within each other"));
        }
        for entry in tree {
            let Ok(name) = std::str::from_utf8(entry.name_bytes()) else {
                let name = String::from_utf8_lossy(entry.name_bytes());
                self.tree.odd_names.push(format!("{folder}{name}"));
                continue;
            };
            let path = format!("{folder}{name}");
            if entry.kind() == Some(ObjectType::Tree) {
                let below = self.repository.find_tree(entry.id())?;
                self.folder(&format!("{path}/"), &below, depth + 1)?;
                continue;
            }
            if self.tree.entries.len() >= ENTRIES_MAX {
                return Err(Stop::TooLarge(ENTRIES_MAX, "entries"));
            }
            let found = match entry.filemode() {
                0o120_000 => TreeEntry::Symlink,
                mode if mode & 0o170_000 != 0o100_000 => TreeEntry::Other,
                _ => self.file(&path, entry.id())?,
            };
            self.tree.entries.insert(path, found);
        }
        Ok(())
    }

    fn file(&mut self, path: &str, id: Oid) -> Result<TreeEntry, Stop> {
        let (size, _) = self.odb.read_header(id)?;
        if !Tree::wants(path) || size > FILE_BYTES_MAX {
            return Ok(TreeEntry::Unread {
                bytes: u64::try_from(size).unwrap_or(u64::MAX),
            });
        }
        self.bytes += size;
        if self.bytes > BYTES_MAX {
            return Err(Stop::TooLarge(BYTES_MAX, "bytes of documents"));
        }
        let blob = self.repository.find_blob(id)?;
        Ok(TreeEntry::File(blob.content().into()))
    }
}
