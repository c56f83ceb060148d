//! The cache on the disk: a binary per digest, and the digest per version.
//! A file is there whole or not at all; whether it is right its reader checks.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::time::SystemTime;

use camino::{Utf8Path, Utf8PathBuf};
use sha2::{Digest as _, Sha256};
use trueup_model::id::{Digest, hex};

use super::{Arch, ReleaseError};

/// A fleet is on one or two versions; these are 70 MiB each.
const BINARIES_MAX: usize = 6;
/// Names of what is being downloaded.
const NEW_PREFIX: &str = ".new-";

#[derive(Debug)]
pub(super) struct Cache {
    dir: Utf8PathBuf,
}

/// A file as it was when its content was read: device, inode, size, time of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stamp(u64, u64, u64, i64, i64);

impl Stamp {
    fn of(found: &fs::Metadata) -> Self {
        Self(
            found.dev(),
            found.ino(),
            found.size(),
            found.ctime(),
            found.ctime_nsec(),
        )
    }
}

/// A download that is under way; the file goes when it is dropped.
#[derive(Debug)]
pub(super) struct NewFile {
    file: tempfile::NamedTempFile,
    path: Utf8PathBuf,
}

impl NewFile {
    pub(super) fn path(&self) -> &Utf8Path {
        &self.path
    }
    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }
}

impl Cache {
    pub(super) fn new(dir: &Utf8Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    fn make(&self) -> Result<(), ReleaseError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(|error| ReleaseError::disk(&self.dir, &error))
    }

    fn digest_file(&self, version: &str, arch: Arch) -> Utf8PathBuf {
        self.dir.join(format!("{version}-{arch}.sha256"))
    }

    fn binary_file(&self, digest: &Digest) -> Utf8PathBuf {
        self.dir.join(format!("{digest}.k3s"))
    }

    /// The recorded digest of a version; `None` also for a damaged record.
    pub(super) fn digest(&self, version: &str, arch: Arch) -> Option<Digest> {
        let mut text = String::new();
        let file = File::open(self.digest_file(version, arch)).ok()?;
        file.take(256).read_to_string(&mut text).ok()?;
        super::find_digest(text.as_bytes(), arch.binary()).ok()
    }

    pub(super) fn put_digest(
        &self,
        version: &str,
        arch: Arch,
        digest: &Digest,
    ) -> Result<(), ReleaseError> {
        let mut file = self.new_file()?;
        let text = format!("{digest}  {}\n", arch.binary());
        file.write_all(text.as_bytes())
            .map_err(|error| ReleaseError::disk(&self.dir, &error))?;
        self.rename(file, &self.digest_file(version, arch))
    }

    pub(super) fn forget_digest(&self, version: &str, arch: Arch) {
        // Where it stays, the same mismatch comes again, and says so.
        drop(fs::remove_file(self.digest_file(version, arch)));
    }

    pub(super) fn new_file(&self) -> Result<NewFile, ReleaseError> {
        self.make()?;
        let made = tempfile::Builder::new()
            .prefix(NEW_PREFIX)
            .tempfile_in(&self.dir);
        let file = made.map_err(|error| ReleaseError::disk(&self.dir, &error))?;
        let path = Utf8Path::from_path(file.path())
            .unwrap_or(&self.dir)
            .to_owned();
        Ok(NewFile { file, path })
    }

    /// The cached binary and its stamp, unread.
    pub(super) fn find(&self, digest: &Digest) -> Option<(Utf8PathBuf, Stamp)> {
        let path = self.binary_file(digest);
        let found = fs::symlink_metadata(&path).ok()?;
        found.is_file().then(|| (path, Stamp::of(&found)))
    }

    /// Puts a verified download into its place.
    pub(super) fn keep(
        &self,
        file: NewFile,
        digest: &Digest,
    ) -> Result<(Utf8PathBuf, Stamp), ReleaseError> {
        let path = self.binary_file(digest);
        self.rename(file, &path)?;
        self.forget_old(&path);
        self.find(digest).ok_or_else(|| ReleaseError::Cache {
            path: path.clone(),
            why: "it vanished right after it was made".to_owned(),
        })
    }

    /// On the disk before it has its name: a power cut leaves all or nothing.
    fn rename(&self, file: NewFile, path: &Utf8Path) -> Result<(), ReleaseError> {
        let disk = |error: io::Error| ReleaseError::disk(path, &error);
        file.file.as_file().sync_all().map_err(disk)?;
        file.file.persist(path).map_err(|error| disk(error.error))?;
        let folder = File::open(&self.dir).map_err(disk)?;
        folder.sync_all().map_err(disk)
    }

    /// Keeps the newest few binaries, and no download of a process that was killed.
    fn forget_old(&self, just_made: &Utf8Path) {
        let Ok(entries) = self.dir.read_dir_utf8() else {
            return;
        };
        let mut binaries: Vec<(SystemTime, Utf8PathBuf)> = Vec::new();
        for entry in entries.flatten() {
            let path = entry.path();
            if path == just_made {
                continue;
            }
            if entry.file_name().starts_with(NEW_PREFIX) {
                drop(fs::remove_file(path));
            } else if path.extension() == Some("k3s")
                && let Ok(changed) = entry.metadata().and_then(|found| found.modified())
            {
                binaries.push((changed, path.to_owned()));
            }
        }
        binaries.sort();
        let too_many = (binaries.len() + 1).saturating_sub(BINARIES_MAX);
        for (_, path) in binaries.iter().take(too_many) {
            // What cannot be removed costs space, nothing else.
            drop(fs::remove_file(path));
        }
    }
}

/// The digest of a file; `None` if it cannot be read.
pub(super) async fn digest_of(path: &Utf8Path) -> Option<Digest> {
    let path = path.to_owned();
    let hashing = tokio::task::spawn_blocking(move || {
        let mut hasher = Sha256::new();
        let mut file = File::open(path).ok()?;
        let mut piece = vec![0; 256 * 1024];
        loop {
            let count = file.read(&mut piece).ok()?;
            if count == 0 {
                return Some(Digest(hex(&hasher.finalize())));
            }
            hasher.update(piece.get(..count)?);
        }
    });
    hashing.await.ok()?
}
