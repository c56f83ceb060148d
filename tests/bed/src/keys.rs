//! SSH keys of a run: one for the tests to log in with, one per machine.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::shell::run;

/// An ed25519 key pair in OpenSSH's files.
#[derive(Debug, Clone)]
pub struct KeyPair {
    path: PathBuf,
    public: String,
}

impl KeyPair {
    /// Makes `path` (0600) and `path.pub`.
    pub fn generate(path: &Path, comment: &str) -> Result<Self> {
        let file = path.display().to_string();
        run(&[
            "ssh-keygen",
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-C",
            comment,
            "-f",
            &file,
        ])?;
        let public =
            std::fs::read_to_string(format!("{file}.pub")).context("no public key was written")?;
        Ok(Self {
            path: path.to_owned(),
            public: public.trim().to_owned(),
        })
    }

    /// The private key's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The public key as OpenSSH writes it: `ssh-ed25519 AAAA... comment`.
    pub fn public(&self) -> &str {
        &self.public
    }
}

/// An RSA private key as PEM, which kube-apiserver wants for service accounts.
pub fn rsa_key(path: &Path) -> Result<()> {
    run(&[
        "ssh-keygen",
        "-q",
        "-t",
        "rsa",
        "-b",
        "2048",
        "-m",
        "PEM",
        "-N",
        "",
        "-f",
        &path.display().to_string(),
    ])
    .map(drop)
}
