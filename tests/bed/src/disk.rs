//! A machine's disk: an overlay over the shared tree whose upper directory is
//! kept over power cuts, and one plain directory at `/var/lib/rancher` (etcd and
//! containerd want no overlay under them).

use std::{
    fs,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{
    run::Run,
    shell::run,
    sweep::{is_mounted, unmount},
};

/// Where the plain directory is inside the machine.
pub const PLAIN_DIR: &str = "/var/lib/rancher";

#[derive(Debug, Clone)]
pub struct Disk {
    tree: PathBuf,
    /// Holds `upper`, `work`, `rancher` and `snapshots`.
    store: PathBuf,
    root: PathBuf,
}

impl Disk {
    /// A blank disk over `tree`, mounted.
    pub fn create(owner: &Run, machine: &str, tree: &Path) -> Result<Self> {
        let store = owner.disks().join(machine);
        let root = owner.home().join("machines").join(machine).join("root");
        for part in ["upper", "work", "rancher", "snapshots"] {
            // The upper directory's mode becomes the mode of the machine's `/`.
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(store.join(part))?;
        }
        fs::create_dir_all(&root)?;
        let disk = Self {
            tree: tree.to_owned(),
            store,
            root,
        };
        owner.ledger().mount(&disk.root)?;
        disk.mount()?;
        Ok(disk)
    }

    /// Where the disk is mounted on the host.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What the machine changed over the tree.
    pub fn upper(&self) -> PathBuf {
        self.store.join("upper")
    }

    /// The host's path of [`PLAIN_DIR`].
    pub fn plain(&self) -> PathBuf {
        self.store.join("rancher")
    }

    /// The host's path of a machine's absolute path. Never follow what a machine
    /// wrote: symlinks in it lead out of the machine, so they are refused.
    pub fn host_path(&self, path: &str) -> Result<PathBuf> {
        anyhow::ensure!(path.starts_with('/'), "{path} is not absolute");
        let mut found = match path.strip_prefix(PLAIN_DIR) {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => (self.plain(), rest),
            _ => (self.root.clone(), path),
        };
        for part in found.1.split('/').filter(|part| !part.is_empty()) {
            anyhow::ensure!(part != "..", "{path} leads upwards");
            found.0.push(part);
            anyhow::ensure!(!found.0.is_symlink(), "{} is a symlink", found.0.display());
        }
        Ok(found.0)
    }

    /// Writes a file while the machine is off or not yet started.
    pub fn write(&self, path: &str, mode: u32, content: impl AsRef<[u8]>) -> Result<()> {
        let file = self.host_path(path)?;
        fs::create_dir_all(file.parent().context("a file has a folder")?)?;
        fs::write(&file, content).with_context(|| format!("cannot write {path}"))?;
        Ok(fs::set_permissions(
            &file,
            fs::Permissions::from_mode(mode),
        )?)
    }

    /// Copies the disk under a name. The machine is off.
    pub fn snapshot(&self, name: &str) -> Result<()> {
        self.unmount()?;
        let copy = self.store.join("snapshots").join(name);
        remove_dir(&copy)?;
        fs::create_dir_all(&copy)?;
        self.copy_parts(&self.store, &copy)?;
        self.mount()
    }

    /// Puts the disk back to what it was under a name. The machine is off.
    pub fn restore(&self, name: &str) -> Result<()> {
        let copy = self.store.join("snapshots").join(name);
        anyhow::ensure!(copy.exists(), "there is no snapshot {name}");
        self.unmount()?;
        for part in ["upper", "work", "rancher"] {
            remove_dir(&self.store.join(part))?;
        }
        fs::create_dir(self.store.join("work"))?;
        self.copy_parts(&copy, &self.store)?;
        self.mount()
    }

    /// `cp -a` keeps what makes an overlay: whiteouts (devices 0:0) and `trusted.*` attributes.
    fn copy_parts(&self, from: &Path, to: &Path) -> Result<()> {
        for part in ["upper", "rancher"] {
            let (from, to) = (
                from.join(part).display().to_string(),
                to.display().to_string(),
            );
            run(&["cp", "-a", "--reflink=auto", "--sparse=auto", &from, &to])?;
        }
        Ok(())
    }

    fn mount(&self) -> Result<()> {
        if is_mounted(&self.root) {
            return Ok(());
        }
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            self.tree.display(),
            self.upper().display(),
            self.store.join("work").display()
        );
        run(&[
            "mount",
            "-t",
            "overlay",
            "overlay",
            "-o",
            &options,
            &self.root.display().to_string(),
        ])
        .map(drop)
    }

    fn unmount(&self) -> Result<()> {
        unmount(&self.root)
    }
}

fn remove_dir(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    Ok(())
}
