//! Settings of one SSH connection, as the app makes them of the Node document and
//! the host configuration.

use std::sync::Arc;
use std::time::Duration;

use russh::keys::{PrivateKey, PublicKey};
use secrecy::{ExposeSecret as _, SecretString};

use super::allow::AllowList;

/// Why settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A pinned key that is none.
    #[error("{line:?} is not a public host key: {why}")]
    HostKey {
        /// The line, cut.
        line: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nothing is pinned.
    #[error("no host key is pinned for {0}")]
    NoHostKey(String),
    /// A private key that cannot be read; nothing of it is shown.
    #[error("the SSH identity cannot be read: {0}")]
    Identity(String),
}

/// A private key to log in with. Its `Debug` shows the public half only.
#[derive(Clone)]
pub struct Identity(Arc<PrivateKey>);

impl Identity {
    /// Reads a private key in OpenSSH, PKCS#8 or PKCS#1 form, without passphrase.
    pub fn parse(pem: &SecretString) -> Result<Self, SettingsError> {
        let key = russh::keys::decode_secret_key(pem.expose_secret(), None)
            .map_err(|error| SettingsError::Identity(error.to_string()))?;
        if key.is_encrypted() {
            return Err(SettingsError::Identity(
                "it has a passphrase, and nobody is there to type it".to_owned(),
            ));
        }
        Ok(Self(Arc::new(key)))
    }

    pub(super) fn key(&self) -> Arc<PrivateKey> {
        Arc::clone(&self.0)
    }

    /// `SHA256:…` of the public half, as `ssh-keygen -l` shows it.
    pub fn fingerprint(&self) -> String {
        self.0.fingerprint(russh::keys::HashAlg::Sha256).to_string()
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Identity")
            .field(&self.fingerprint())
            .finish()
    }
}

/// One machine on the way, or the last one.
#[derive(Debug, Clone)]
pub struct Hop {
    /// IP address or DNS name.
    pub address: String,
    /// TCP port.
    pub port: u16,
    /// User to log in as.
    pub user: String,
    /// The only host keys that are believed.
    pub(super) host_keys: Vec<PublicKey>,
    /// What to log in with.
    pub identity: Identity,
}

impl Hop {
    /// A hop; `host_keys` are lines like `ssh-ed25519 AAAA…`, with or without a comment.
    pub fn new(
        address: &str,
        port: u16,
        user: &str,
        host_keys: &[String],
        identity: Identity,
    ) -> Result<Self, SettingsError> {
        if host_keys.is_empty() {
            return Err(SettingsError::NoHostKey(address.to_owned()));
        }
        let host_keys = host_keys
            .iter()
            .map(|line| {
                PublicKey::from_openssh(line.trim()).map_err(|error| SettingsError::HostKey {
                    line: line.chars().take(60).collect(),
                    why: error.to_string(),
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            address: address.to_owned(),
            port,
            user: user.to_owned(),
            host_keys,
            identity,
        })
    }

    /// A hop whose host key is to be asked for: with nothing pinned, its handshake
    /// always ends before anything but the key exchange was sent.
    pub(super) fn without_pins(self) -> Self {
        Self {
            host_keys: Vec::new(),
            ..self
        }
    }

    /// A hop of which nothing is known yet but its address; only
    /// [`shown_key`](super::shown_key) can use it.
    pub fn stranger(address: &str, port: u16, user: &str, identity: Identity) -> Self {
        Self {
            address: address.to_owned(),
            port,
            user: user.to_owned(),
            host_keys: Vec::new(),
            identity,
        }
    }

    /// `address:port`, with brackets around IPv6.
    pub fn place(&self) -> String {
        if self.address.contains(':') {
            format!("[{}]:{}", self.address, self.port)
        } else {
            format!("{}:{}", self.address, self.port)
        }
    }
}

/// How a machine is reached.
#[derive(Debug, Clone)]
pub struct SshSettings {
    /// The machine.
    pub target: Hop,
    /// Machines to go through, the first one first.
    pub jump: Vec<Hop>,
    /// Where anything may be sent; every hop is checked before anything is.
    pub allow: Arc<AllowList>,
    /// TCP connect, handshake and login of each hop take no longer.
    pub connect_limit: Duration,
}

impl SshSettings {
    /// A machine reached directly, with the usual deadline.
    pub fn direct(target: Hop, allow: Arc<AllowList>) -> Self {
        Self {
            target,
            jump: Vec::new(),
            allow,
            connect_limit: CONNECT_LIMIT,
        }
    }
}

/// A login takes some 50 ms, over a bad line some seconds; sshd itself gives up
/// after 120 s (`LoginGraceTime`).
pub const CONNECT_LIMIT: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_or_refused_without_showing_them() {
        let canary = "CANARY-in-a-private-key";
        let pem = SecretString::from(format!(
            "-----BEGIN OPENSSH PRIVATE KEY-----\n{canary}\n-----END OPENSSH PRIVATE KEY-----\n"
        ));
        let error = Identity::parse(&pem).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(canary));
    }
}
