//! Who may ask the control plane: tokens, and a kubeconfig each.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::Result;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;
use sha2::{Digest, Sha256};

/// What a user of the control plane may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Everything, past RBAC (group `system:masters`).
    Admin,
    /// `get`, `list` and `watch` of everything, no dry run.
    ReadOnly,
    /// Known and nothing more: RBAC rules of the test decide.
    Nobody,
}

/// A user, named as the audit log will name it.
#[derive(Debug, Clone)]
pub struct User {
    pub name: String,
    pub role: Role,
}

impl User {
    pub fn new(name: &str, role: Role) -> Self {
        Self {
            name: name.to_owned(),
            role,
        }
    }

    /// A token that is this user's on this run alone.
    pub fn token(&self, run: &str) -> String {
        let digest = Sha256::digest(format!("trueup-bed {run} {}", self.name));
        digest
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// The file for `--token-auth-file`.
pub(super) fn write_tokens(path: &Path, users: &[User], run: &str) -> Result<()> {
    let mut lines = String::new();
    for user in users {
        let group = match user.role {
            Role::Admin => "system:masters",
            Role::ReadOnly => "trueup-bed:read-only",
            Role::Nobody => "trueup-bed:nobody",
        };
        lines.push_str(&format!("{},{1},{1},{group}\n", user.token(run), user.name));
    }
    write_private(path, &lines)
}

/// A kubeconfig with the user's token (JSON, which is YAML too).
pub(super) fn write_kubeconfig(
    dir: &Path,
    user: &User,
    run: &str,
    server: &str,
    ca: &Path,
) -> Result<PathBuf> {
    let path = dir.join(format!("{}.kubeconfig", user.name));
    let ca = STANDARD.encode(fs::read(ca)?);
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "bed", "cluster": { "server": server, "certificate-authority-data": ca } }],
        "users": [{ "name": user.name, "user": { "token": user.token(run) } }],
        "contexts": [{ "name": "bed", "context": { "cluster": "bed", "user": user.name } }],
        "current-context": "bed",
    });
    write_private(&path, &serde_json::to_string_pretty(&config)?)?;
    Ok(path)
}

/// What [`Role::ReadOnly`] is allowed, as objects to apply.
pub(super) const READ_ONLY: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: { name: trueup-bed-read-only }
rules:
  - { apiGroups: ["*"], resources: ["*"], verbs: [get, list, watch] }
  - { nonResourceURLs: ["*"], verbs: [get] }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: trueup-bed-read-only }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: trueup-bed-read-only }
subjects: [{ apiGroup: rbac.authorization.k8s.io, kind: Group, name: "trueup-bed:read-only" }]
"#;

fn write_private(path: &Path, text: &str) -> Result<()> {
    let mut file = fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}
