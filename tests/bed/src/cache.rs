//! The cache that `tests/run` fills: the machine trees and the programs built once.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Where the installers of `tests/bed/install` put things, outside the repository.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// `TRUEUP_BED_CACHE`, else `/var/cache/trueup-bed`.
    pub fn locate() -> Self {
        let root = std::env::var_os("TRUEUP_BED_CACHE")
            .filter(|value| !value.is_empty())
            .map_or_else(|| PathBuf::from("/var/cache/trueup-bed"), PathBuf::from);
        Self { root }
    }

    /// The directory with etcd, kube-apiserver, kubectl, kwok, sops, age and the others.
    pub fn bin(&self) -> Result<PathBuf> {
        self.current("bin", "go-tools")
    }

    /// One program of [`Cache::bin`].
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let path = self.bin()?.join(name);
        anyhow::ensure!(
            path.exists(),
            "{} is not built; run tests/bed/install/go-tools",
            path.display()
        );
        Ok(path)
    }

    /// The directory with Gitea and the files that it reads.
    pub fn gitea(&self) -> Result<PathBuf> {
        self.current("gitea", "gitea")
    }

    /// The tree under every machine.
    pub fn tree(&self) -> Result<PathBuf> {
        self.current("tree", "tree")
    }

    /// The larger tree that the real k3s needs.
    pub fn tree_k3s(&self) -> Result<PathBuf> {
        self.current("tree-k3s", "tree k3s")
    }

    /// The tree with Python, which Ansible needs on its machines.
    pub fn tree_python(&self) -> Result<PathBuf> {
        self.current("tree-python", "tree python")
    }

    /// Entries are symlinks to what the present recipe made; the real path is what
    /// machines are given, so that a rebuild meanwhile changes nothing under them.
    fn current(&self, name: &str, installer: &str) -> Result<PathBuf> {
        let path = self.root.join(name);
        Path::canonicalize(&path).with_context(|| {
            format!(
                "{} is missing; run tests/bed/install/{installer}",
                path.display()
            )
        })
    }
}
