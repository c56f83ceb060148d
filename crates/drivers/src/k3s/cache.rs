//! Binaries that were downloaded and verified, by digest, in the state directory.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use trueup_model::id::{Digest, hex};

/// So many binaries are kept, the newest: two versions for each of two architectures
/// while an upgrade rolls, and some to go back to. A k3s binary has 70 to 90 MB.
const KEPT: usize = 6;

/// The folder of the cache.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    dir: Utf8PathBuf,
}

impl Cache {
    pub(super) fn open(dir: &Utf8Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
        })
    }

    pub(super) fn dir(&self) -> &Utf8Path {
        &self.dir
    }

    fn binary_path(&self, digest: &Digest) -> Utf8PathBuf {
        self.dir.join(&digest.0)
    }

    /// The digest that was published for `name`, where it is remembered.
    pub(super) fn published(&self, name: &str) -> Option<Digest> {
        let text = fs::read_to_string(self.dir.join(format!("{name}.sha256"))).ok()?;
        let text = text.trim();
        let whole = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
        whole.then(|| Digest(text.to_owned()))
    }

    /// Remembers a published digest.
    pub(super) fn remember(&self, name: &str, digest: &Digest) -> io::Result<()> {
        let mut file = NamedTempFile::new_in(&self.dir)?;
        writeln!(file, "{digest}")?;
        file.persist(self.dir.join(format!("{name}.sha256")))?;
        Ok(())
    }

    /// Forgets a published digest that turned out wrong.
    pub(super) fn forget(&self, name: &str) {
        // If it cannot be removed now, it is found wrong again.
        drop(fs::remove_file(self.dir.join(format!("{name}.sha256"))));
    }

    /// A binary with this digest, read whole: what a disk did to it is seen here.
    pub(super) fn find(&self, digest: &Digest) -> io::Result<Option<Utf8PathBuf>> {
        let path = self.binary_path(digest);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut hasher = Sha256::new();
        let mut piece = vec![0; 1024 * 1024];
        loop {
            let n = file.read(&mut piece)?;
            if n == 0 {
                break;
            }
            hasher.update(piece.get(..n).unwrap_or_default());
        }
        if hex(&hasher.finalize()) == digest.0 {
            return Ok(Some(path));
        }
        fs::remove_file(&path)?;
        Ok(None)
    }

    /// An empty file to download into; it goes away unless it is kept.
    pub(super) fn download(&self) -> io::Result<NamedTempFile> {
        tempfile::Builder::new()
            .prefix("download-")
            .tempfile_in(&self.dir)
    }

    /// Keeps a download under its digest, and the newest others.
    pub(super) fn keep(&self, file: NamedTempFile, digest: &Digest) -> io::Result<Utf8PathBuf> {
        let path = self.binary_path(digest);
        file.as_file().sync_all()?;
        file.persist(&path)?;
        File::open(&self.dir)?.sync_all()?;
        self.sweep(&path)?;
        Ok(path)
    }

    fn sweep(&self, newest: &Utf8Path) -> io::Result<()> {
        let mut binaries = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let path = entry.path();
            let is_binary = entry.file_name().len() == 64;
            // What a killed download left; one that runs is younger than an hour.
            let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
            let is_left = entry.file_name().to_string_lossy().starts_with("download-");
            if is_left && age.as_secs() > 3600 {
                fs::remove_file(&path)?;
            } else if is_binary && path != newest.as_std_path() {
                binaries.push((age, path));
            }
        }
        binaries.sort();
        for (_, path) in binaries.iter().skip(KEPT - 1) {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}
