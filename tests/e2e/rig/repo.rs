//! The config repo: a work tree on the test's own host, and the bare repository on
//! `mgmt` that it is pushed to over SSH.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use trueup_bed::Bed;

use super::{MGMT, run};

/// Where the bare repository lies on `mgmt`.
pub(crate) const BARE: &str = "/srv/fleet.git";

/// A person's clone.
#[derive(Debug)]
pub(crate) struct ConfigRepo {
    dir: PathBuf,
    ssh: String,
}

impl ConfigRepo {
    /// Makes both repositories, empty.
    pub(crate) fn make(bed: &Bed, dir: &Path) -> Result<Self> {
        let mgmt = bed.machine(MGMT);
        mgmt.sh(&format!("git init -q --bare -b main {BARE}"))?;
        fs::create_dir_all(dir)?;
        let repo = Self {
            dir: dir.to_owned(),
            ssh: format!(
                "ssh -F none -o BatchMode=yes -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile={} -i {}",
                bed.known_hosts_path().display(),
                bed.ssh_key_path().display()
            ),
        };
        repo.git(&["init", "-q", "-b", "main"])?;
        let url = format!("ssh://root@{}{BARE}", mgmt.ip());
        repo.git(&["remote", "add", "origin", &url])?;
        Ok(repo)
    }

    pub(crate) fn git(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new("git");
        command
            .args(["-c", "user.name=dev", "-c", "user.email=dev@example.org"])
            .args(["-c", "commit.gpgsign=false", "-C"])
            .arg(&self.dir)
            .args(args)
            .env("GIT_SSH_COMMAND", &self.ssh);
        Ok(run(&mut command)?.trim().to_owned())
    }

    /// Writes a file of the work tree.
    pub(crate) fn write(&self, path: &str, text: &str) -> Result<()> {
        let file = self.dir.join(path);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    pub(crate) fn read(&self, path: &str) -> Result<String> {
        let file = self.dir.join(path);
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
    }

    /// Replaces a part of a file, which must be there.
    pub(crate) fn replace(&self, path: &str, old: &str, new: &str) -> Result<()> {
        let text = self.read(path)?;
        ensure!(text.contains(old), "{path} holds no {old:?}");
        self.write(path, &text.replace(old, new))
    }

    pub(crate) fn remove(&self, path: &str) -> Result<()> {
        fs::remove_file(self.dir.join(path)).with_context(|| format!("cannot remove {path}"))
    }

    /// Commits everything; the commit.
    pub(crate) fn commit(&self, message: &str) -> Result<String> {
        self.git(&["add", "--all"])?;
        self.git(&["commit", "-q", "--allow-empty", "-m", message])?;
        self.git(&["rev-parse", "HEAD"])
    }

    /// Commits everything and pushes it; the commit.
    pub(crate) fn push(&self, message: &str) -> Result<String> {
        let commit = self.commit(message)?;
        self.git(&["push", "-q", "origin", "HEAD:refs/heads/main"])?;
        Ok(commit)
    }
}
