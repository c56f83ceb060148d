//! The host's age identities, read once and kept in memory.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::str::FromStr;

use camino::Utf8Path;
use zeroize::Zeroizing;

use super::error::IdentityError;

/// An identity file holds a few lines; age itself reads up to 16 MiB.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Private keys that may open encrypted files. `Debug` shows their public halves.
pub struct Identities {
    keys: Vec<Key>,
}

struct Key {
    identity: Box<dyn age::Identity + Send + Sync>,
    public: String,
}

impl Identities {
    /// Reads an identity file: lines `AGE-SECRET-KEY-1…` with comments, or one unencrypted
    /// ssh-ed25519 private key.
    ///
    /// # Errors
    /// The file cannot be read, group or others can get at it, or it holds something else.
    pub fn load(path: &Utf8Path) -> Result<Self, IdentityError> {
        let read = |source| IdentityError::Read {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(read)?;
        let metadata = file.metadata().map_err(read)?;
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(IdentityError::Exposed {
                path: path.to_owned(),
                mode,
            });
        }
        let mut text = Zeroizing::new(String::with_capacity(
            usize::try_from(metadata.len().min(FILE_BYTES_MAX)).unwrap_or(0) + 1,
        ));
        let length = file
            .take(FILE_BYTES_MAX + 1)
            .read_to_string(&mut text)
            .map_err(read)?;
        if u64::try_from(length).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
            return Err(IdentityError::TooLarge {
                path: path.to_owned(),
                max: FILE_BYTES_MAX,
            });
        }
        Self::parse(path, &text)
    }

    /// Reads identities from text; `path` is for messages only.
    ///
    /// # Errors
    /// The text holds something else.
    pub fn parse(path: &Utf8Path, text: &str) -> Result<Self, IdentityError> {
        let fault = |line, why| IdentityError::Line {
            path: path.to_owned(),
            line,
            why,
        };
        if text.trim_start().starts_with("-----BEGIN AGE")
            || text.starts_with("age-encryption.org/")
        {
            let why = "begins an identity file that is itself encrypted, which is not supported";
            return Err(fault(1, why));
        }
        if text.trim_start().starts_with("-----BEGIN") {
            let key = ssh_key(text).map_err(|why| fault(1, why))?;
            return Ok(Self { keys: vec![key] });
        }
        let mut keys = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let identity = age::x25519::Identity::from_str(line).map_err(|_| {
                let why = if line.starts_with("AGE-SECRET-KEY-PQ-") {
                    "is a post-quantum identity, which is not supported yet"
                } else if line.starts_with("AGE-PLUGIN-") {
                    "is the identity of an age plugin, which is never run here"
                } else {
                    "is not an age identity"
                };
                fault(index + 1, why)
            })?;
            let public = identity.to_public().to_string();
            keys.push(Key {
                identity: Box::new(identity),
                public,
            });
        }
        if keys.is_empty() {
            return Err(IdentityError::Empty {
                path: path.to_owned(),
            });
        }
        Ok(Self { keys })
    }

    /// The public keys, for messages.
    #[must_use]
    pub fn public(&self) -> Vec<String> {
        self.keys.iter().map(|key| key.public.clone()).collect()
    }

    /// Whether one of them belongs to this recipient, as it stands in a file.
    #[must_use]
    pub fn holds(&self, recipient: &str) -> bool {
        // An ssh recipient may carry a comment after the key.
        let words = |text: &str| {
            let mut words = text.split_whitespace().map(str::to_owned);
            (words.next(), words.next())
        };
        self.keys
            .iter()
            .any(|key| words(&key.public) == words(recipient))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.keys
            .iter()
            .map(|key| key.identity.as_ref() as &dyn age::Identity)
    }
}

fn ssh_key(text: &str) -> Result<Key, &'static str> {
    use age::ssh::{Identity, Recipient};
    let identity = Identity::from_buffer(text.trim_start().as_bytes(), None)
        .map_err(|_| "begins no SSH private key that is understood")?;
    match identity {
        Identity::Unencrypted(_) => {}
        Identity::Encrypted(_) => {
            return Err("begins an SSH key with a passphrase; nobody is here to type it");
        }
        Identity::Unsupported(_) => {
            return Err("begins an SSH key of a kind that is not supported");
        }
    }
    let public = Recipient::try_from(identity.clone())
        .map_err(|_| "begins an SSH key of a kind that is not supported")?
        .to_string();
    // RSA stays out: the library's timing weakness (RUSTSEC-2023-0071) has no fix.
    if !public.starts_with("ssh-ed25519 ") {
        return Err("begins an SSH key that is not ed25519");
    }
    Ok(Key {
        identity: Box::new(identity),
        public,
    })
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identities").field(&self.public()).finish()
    }
}
