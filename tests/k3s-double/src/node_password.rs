//! The node password: a random text on the machine, its hash in a Secret of kube-system.
//!
//! k3s keeps a scrypt hash (nodepassword/*.go, checked); here it is a salted SHA-256, because nobody but this program
//! reads it.

use std::path::Path;

use anyhow::{Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::kube::{Api, text};
use crate::layout;
use crate::token::{hex, random_hex};

/// Whether a node may call itself by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Right,
    Wrong,
}

/// This machine's password, made at the first start.
pub(crate) fn own() -> Result<String> {
    let path = Path::new("/etc/rancher/node/password");
    if let Some(password) = layout::read_if_there(path)? {
        return Ok(password.trim().to_owned());
    }
    layout::make_open_dir(Path::new("/etc/rancher/node"))?;
    let password = random_hex(16)?;
    layout::write(path, format!("{password}\n").as_bytes(), 0o600)?;
    Ok(password)
}

fn hash(salt: &str, password: &str) -> String {
    format!(
        "$double:{salt}:{}",
        hex(&Sha256::digest(format!("{salt}:{password}")))
    )
}

/// Compares with the Secret, or makes it when the node is new.
pub(crate) async fn check(api: &Api, node: &str, password: &str) -> Result<Verdict> {
    let name = format!("{node}.node-password.k3s");
    let collection = "/api/v1/namespaces/kube-system/secrets";
    if let Some(secret) = api.get(&format!("{collection}/{name}")).await? {
        let stored = String::from_utf8(STANDARD.decode(text(&secret, "/data/hash"))?)?;
        let salt = stored
            .split(':')
            .nth(1)
            .ok_or_else(|| anyhow!("password hash of {node} is unreadable"))?;
        return Ok(if hash(salt, password) == stored {
            Verdict::Right
        } else {
            Verdict::Wrong
        });
    }
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "k3s.cattle.io/node-password", "immutable": true,
        "metadata": {"name": name, "namespace": "kube-system"},
        "data": {"hash": STANDARD.encode(hash(&random_hex(8)?, password))},
    });
    api.create(collection, &secret).await?;
    Ok(Verdict::Right)
}
