//! The files of one commit or work tree, as values. Whoever reads them (a Git object database, a
//! folder) fills this in; nothing here or after it follows a link or looks at a disk.

use std::collections::BTreeMap;
use std::sync::Arc;

/// More entries than this are refused. The largest fleet repositories known have a tenth.
pub const ENTRIES_MAX: usize = 100_000;
/// All file contents together may hold so many bytes.
pub const BYTES_MAX: usize = 256 * 1024 * 1024;
/// A file larger than this is listed but not read.
pub const FILE_BYTES_MAX: usize = crate::document::FILE_BYTES_MAX;

/// What stands at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeEntry {
    /// A file that was read.
    File(Arc<[u8]>),
    /// A file that was not: not a document, or larger than [`FILE_BYTES_MAX`].
    Unread {
        /// Its size in bytes.
        bytes: u64,
    },
    /// A symbolic link. It is never followed.
    Symlink,
    /// A submodule, or anything else that is neither file nor link.
    Other,
}

/// All entries by path: `/` between parts, no leading `/`.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// The entries.
    pub entries: BTreeMap<String, TreeEntry>,
    /// Names that are not UTF-8, made readable; nothing below them was read.
    pub odd_names: Vec<String>,
}

impl Tree {
    /// A tree of these files.
    pub fn of<P: Into<String>, B: AsRef<[u8]>>(files: impl IntoIterator<Item = (P, B)>) -> Self {
        let file = |(path, bytes): (P, B)| (path.into(), TreeEntry::File(bytes.as_ref().into()));
        Self {
            entries: files.into_iter().map(file).collect(),
            odd_names: Vec::new(),
        }
    }

    /// Whether the content of a path is of interest: documents, outside of dot folders.
    #[must_use]
    pub fn wants(path: &str) -> bool {
        let hidden = path.split('/').any(|part| part.starts_with('.'));
        !hidden
            && [".yaml", ".yml", ".json"]
                .iter()
                .any(|ending| path.ends_with(ending))
    }

    /// The entries in a folder and below; `""` is all of them.
    pub fn below<'a>(
        &'a self,
        folder: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a TreeEntry)> + 'a {
        let start = if folder.is_empty() {
            String::new()
        } else {
            format!("{folder}/")
        };
        self.entries
            .range(start.clone()..)
            .take_while(move |(path, _)| path.starts_with(&start))
            .map(|(path, entry)| (path.as_str(), entry))
    }
}

/// The folder of a path; `""` for the root.
#[must_use]
pub fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Whether `path` lies in `folder` or below; everything lies below `""`.
#[must_use]
pub fn lies_below(path: &str, folder: &str) -> bool {
    folder.is_empty()
        || path
            .strip_prefix(folder)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
