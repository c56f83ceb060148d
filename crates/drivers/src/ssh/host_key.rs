//! Host keys: only pinned ones are believed.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use russh::client;
use russh::client::Handler;
use russh::keys::{Algorithm, HashAlg, PublicKey, PublicKeyOrCertificate};

/// What a host showed, when it was not believed.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown(Arc<Mutex<Option<PublicKey>>>);

impl Shown {
    pub(super) fn get(&self) -> Option<PublicKey> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, key: PublicKey) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(key);
    }
}

/// Believes the pinned keys of one host and no other.
#[derive(Debug)]
pub(super) struct Pins {
    pinned: Vec<PublicKey>,
    shown: Shown,
}

impl Pins {
    pub(super) fn new(pinned: &[PublicKey], shown: Shown) -> Self {
        Self {
            pinned: pinned.to_vec(),
            shown,
        }
    }
}

impl Handler for Pins {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        key: &PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        let key = match key {
            PublicKeyOrCertificate::PublicKey { key, .. } => key,
            // Never asked for (`host_key_certificates` is empty).
            PublicKeyOrCertificate::Certificate(_) => return Ok(false),
        };
        // Comments are not part of a key.
        let known = self
            .pinned
            .iter()
            .any(|pin| pin.key_data() == key.key_data());
        if !known {
            self.shown.set(key.clone());
        }
        Ok(known)
    }
}

/// The algorithms to ask for: those of the pinned keys, so that a host with several
/// keys shows the one that is pinned. RSA only with SHA-2.
pub(super) fn algorithms(pinned: &[PublicKey]) -> Cow<'static, [Algorithm]> {
    let mut out = Vec::new();
    for key in pinned {
        let of_key = match key.algorithm() {
            Algorithm::Rsa { .. } => vec![
                Algorithm::Rsa {
                    hash: Some(HashAlg::Sha512),
                },
                Algorithm::Rsa {
                    hash: Some(HashAlg::Sha256),
                },
            ],
            other => vec![other],
        };
        for algorithm in of_key {
            if !out.contains(&algorithm) {
                out.push(algorithm);
            }
        }
    }
    Cow::Owned(out)
}

/// Whether a handshake failed because the host has no key of a pinned type.
pub(super) fn is_other_type(error: &russh::Error) -> bool {
    matches!(
        error,
        russh::Error::NoCommonAlgo {
            kind: russh::AlgorithmKind::Key,
            ..
        }
    )
}

/// The keepalive and the limits of every connection.
pub(super) fn config(pinned: &[PublicKey]) -> client::Config {
    client::Config {
        // A silent machine is noticed within 20 s: russh's default is never.
        keepalive_interval: Some(std::time::Duration::from_secs(5)),
        keepalive_max: 3,
        // russh's default leaves Nagle's algorithm on: 40 ms for each small request.
        nodelay: true,
        preferred: russh::Preferred {
            key: algorithms(pinned),
            ..russh::Preferred::default()
        },
        ..client::Config::default()
    }
}
