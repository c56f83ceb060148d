//! The vault: decrypted values in memory, and the host's key for keyed digests.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use sha2::Sha256;
use trueup_core::config::Config;
use trueup_core::drift::Masking;
use trueup_drivers::age::{Decrypted, Identities, decrypt};
use trueup_model::id::{Digest, hex};
use trueup_model::kinds::SecretRef;
use trueup_model::sops::SopsFile;

/// A keyed digest of bytes.
type Keyed = dyn Fn(&[u8]) -> String + Send + Sync;

/// Decrypted values of one commit. Nothing of it is ever shown.
pub(crate) struct Vault {
    mac: Arc<Keyed>,
    identities: Option<Arc<Identities>>,
    values: BTreeMap<SecretRef, Result<SecretString, String>>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vault({} values)", self.values.len())
    }
}

impl Vault {
    /// Decrypt everything that a configuration refers to.
    pub(crate) fn open(
        config: &Config,
        identities: Option<Arc<Identities>>,
        key: &SecretSlice<u8>,
    ) -> Self {
        let key = key.clone();
        let mac = move |bytes: &[u8]| keyed(&key, bytes);
        let mut vault = Self {
            mac: Arc::new(mac),
            identities,
            values: BTreeMap::new(),
        };
        let mut files: BTreeMap<String, Result<Decrypted, String>> = BTreeMap::new();
        for reference in references(config) {
            let file = files.entry(reference.secret.clone()).or_insert_with(|| {
                config
                    .secret_file(&reference)
                    .and_then(|file| vault.decrypt(file))
            });
            let value = match file {
                Ok(file) => file
                    .get(&reference.key)
                    .ok_or_else(|| format!("{} has no value {}", reference.secret, reference.key)),
                Err(why) => Err(why.clone()),
            };
            vault.values.insert(reference, value);
        }
        vault
    }

    /// Decrypt one file.
    pub(crate) fn decrypt(&self, file: &Arc<SopsFile>) -> Result<Decrypted, String> {
        let identities = self.identities.as_deref().ok_or_else(|| {
            format!(
                "{} is encrypted, and the host configuration names no age.identityFile",
                file.file
            )
        })?;
        decrypt(file, identities).map_err(|error| error.to_string())
    }

    /// A value as the bytes of a file.
    pub(crate) fn bytes(&self, reference: &SecretRef) -> Result<SecretSlice<u8>, String> {
        self.value(reference)
            .map(|value| value.expose_secret().as_bytes().to_vec().into())
    }

    fn value(&self, reference: &SecretRef) -> Result<&SecretString, String> {
        match self.values.get(reference) {
            Some(Ok(value)) => Ok(value),
            Some(Err(why)) => Err(why.clone()),
            None => Err(format!("{} was not decrypted", reference.secret)),
        }
    }

    /// SHA-256 of a value; stays in memory.
    pub(crate) fn digest(&self, reference: &SecretRef) -> Result<Digest, String> {
        self.value(reference)
            .map(|value| Digest::of(value.expose_secret().as_bytes()))
    }

    /// How values are kept in baselines.
    pub(crate) fn masking(&self, whole: bool) -> Masking<'_> {
        Masking {
            mac: self.mac.as_ref(),
            whole,
        }
    }

    /// A keyed digest.
    pub(crate) fn keyed(&self, bytes: &[u8]) -> Digest {
        Digest((self.mac)(bytes))
    }
}

fn keyed(key: &SecretSlice<u8>, bytes: &[u8]) -> String {
    // HMAC takes keys of any length.
    match Hmac::<Sha256>::new_from_slice(key.expose_secret()) {
        Ok(mut mac) => {
            mac.update(bytes);
            hex(&mac.finalize().into_bytes())
        }
        Err(_) => String::new(),
    }
}

/// Every reference of a configuration.
fn references(config: &Config) -> Vec<SecretRef> {
    let mut found: Vec<SecretRef> = config
        .clusters
        .values()
        .map(|cluster| cluster.spec.k3s.token_from.clone())
        .collect();
    for profile in config.profiles.values() {
        found.extend(
            profile
                .spec
                .files
                .iter()
                .filter_map(|file| file.content_from.clone()),
        );
    }
    found.sort();
    found.dedup();
    found
}
