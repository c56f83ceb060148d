//! A new age identity, for a host that has none.

use age::secrecy::ExposeSecret as _;
use secrecy::SecretString;

/// A new identity. `Debug` shows its public half.
pub struct Generated {
    /// The text of the identity file.
    pub file: SecretString,
    /// The recipient to encrypt for.
    pub recipient: String,
}

impl std::fmt::Debug for Generated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Generated").field(&self.recipient).finish()
    }
}

/// A new X25519 identity, in the form that `age-keygen` writes.
#[must_use]
pub fn generate() -> Generated {
    let identity = age::x25519::Identity::generate();
    let recipient = identity.to_public().to_string();
    let secret = identity.to_string();
    let file = format!("# public key: {recipient}\n{}\n", secret.expose_secret());
    Generated {
        file: file.into(),
        recipient,
    }
}

#[cfg(test)]
mod tests {
    use camino::Utf8Path;
    use secrecy::ExposeSecret as _;

    use super::generate;
    use crate::age::Identities;

    #[test]
    fn what_is_made_is_read() {
        let made = generate();
        let path = Utf8Path::new("age.key");
        let read = Identities::parse(path, made.file.expose_secret()).unwrap();
        assert_eq!(read.public().join(" "), made.recipient);
        let shown = format!("{made:?}");
        assert!(!shown.contains("SECRET") && shown.contains(&made.recipient));
    }
}
