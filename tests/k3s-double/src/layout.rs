//! Where k3s keeps its files, and how they are written: directories 0700, files 0600 unless said otherwise.
//! The modes are those that real k3s left on a machine (BEHAVIOUR.md, "Seen on real k3s").

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The data directory and what lies in it.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    data: PathBuf,
}

impl Layout {
    /// Over the data directory, usually /var/lib/rancher/k3s.
    pub(crate) fn new(data: PathBuf) -> Self {
        Self { data }
    }

    /// A path under `server/`.
    pub(crate) fn server(&self, path: &str) -> PathBuf {
        self.data.join("server").join(path)
    }

    /// A path under `server/tls/`.
    pub(crate) fn tls(&self, path: &str) -> PathBuf {
        self.server("tls").join(path)
    }

    /// A path under `server/cred/`.
    pub(crate) fn cred(&self, path: &str) -> PathBuf {
        self.server("cred").join(path)
    }

    /// The datastore's directory of a server that embeds etcd.
    pub(crate) fn etcd(&self) -> PathBuf {
        self.server("db/etcd")
    }

    /// A path under `agent/`.
    pub(crate) fn agent(&self, path: &str) -> PathBuf {
        self.data.join("agent").join(path)
    }

    /// Makes the directories of a server.
    pub(crate) fn make_server(&self) -> Result<()> {
        make_open_dir(&self.data)?;
        for path in [
            self.cred(""),
            self.server("db/etcd"),
            self.server("manifests"),
            self.server("tls"),
        ] {
            make_dir(&path)?;
        }
        make_open_dir(&self.tls("etcd"))
    }

    /// Makes the directories of an agent, or of a server's node part.
    pub(crate) fn make_agent(&self) -> Result<()> {
        make_open_dir(&self.agent("etc"))?;
        make_dir(&self.agent("etc/kubelet.conf.d"))
    }
}

/// Makes a directory and its missing parents, mode 0700.
pub(crate) fn make_dir(path: &Path) -> Result<()> {
    make_dir_as(path, 0o700)
}

/// Makes a directory and its missing parents, mode 0755.
pub(crate) fn make_open_dir(path: &Path) -> Result<()> {
    make_dir_as(path, 0o755)
}

fn make_dir_as(path: &Path, mode: u32) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .with_context(|| format!("create directory {}", path.display()))
}

/// Writes a file in one step (temporary name, then rename), so that a power cut leaves the old or the new one.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let put = || -> std::io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&temporary)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    put().with_context(|| format!("write {}", path.display()))
}

/// Makes `link` a symbolic link to `target`, replacing what is there.
pub(crate) fn link(target: &Path, link: &Path) -> Result<()> {
    match std::fs::remove_file(link) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("remove {}", link.display())),
    }
    std::os::unix::fs::symlink(target, link).with_context(|| format!("link {}", link.display()))
}

/// The text of a file, or none when it does not exist.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// The text of a file that must exist.
pub(crate) fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}
