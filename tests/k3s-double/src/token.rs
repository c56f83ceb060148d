//! Join tokens: `K10<sha-256 of the CA>::user:password`, a bare password, or a bootstrap token.
//!
//! As k3s reads them (clientaccess/token.go, util/token.go, checked). The user is ignored: a server always asks as
//! `server`, an agent as `node`.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// A parsed token. Its password is never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// The hash of the cluster's CA file, of the full form only: 64 lower-case hexadecimal digits.
    pub(crate) ca_hash: Option<String>,
    pub(crate) password: String,
    /// Whether it has the form of a bootstrap token, which only agents may use.
    pub(crate) bootstrap: bool,
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Token")
            .field("ca_hash", &self.ca_hash)
            .finish_non_exhaustive()
    }
}

impl Token {
    /// Reads any of the three forms.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err("token must not be empty".to_owned());
        }
        let Some(full) = text.strip_prefix("K10") else {
            return Ok(Self {
                ca_hash: None,
                password: text.to_owned(),
                bootstrap: is_bootstrap(text),
            });
        };
        let Some((hash, rest)) = full.split_once("::") else {
            return Err("invalid token format".to_owned());
        };
        if hash.len() != 64 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err("invalid token CA hash length".to_owned());
        }
        let password = rest.split_once(':').map_or(rest, |(_, password)| password);
        if password.is_empty() {
            return Err("invalid token format".to_owned());
        }
        Ok(Self {
            ca_hash: Some(hash.to_ascii_lowercase()),
            password: password.to_owned(),
            bootstrap: is_bootstrap(rest),
        })
    }

    /// The token of a server; a bootstrap token is none.
    pub(crate) fn for_server(text: &str) -> Result<Self, String> {
        let token = Self::parse(text)
            .map_err(|error| format!("failed to normalize server token: {error}"))?;
        if token.bootstrap {
            return Err("failed to normalize server token; must be in format K10<CA-HASH>::<USERNAME>:<PASSWORD> or <PASSWORD>"
                .to_owned());
        }
        Ok(token)
    }

    /// Checks the cluster's CA file against the hash of the full form.
    pub(crate) fn check_ca(&self, ca_pem: &[u8]) -> Result<(), String> {
        let Some(expected) = &self.ca_hash else {
            return Ok(());
        };
        let actual = ca_hash(ca_pem);
        if *expected == actual {
            return Ok(());
        }
        Err(format!(
            "token CA hash does not match the Cluster CA certificate hash: {expected} != {actual}"
        ))
    }
}

fn is_bootstrap(text: &str) -> bool {
    let plain = |part: &str| {
        part.bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    text.split_once('.').is_some_and(|(id, secret)| {
        id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret)
    })
}

/// SHA-256 of a CA file with one certificate, in hexadecimal.
pub(crate) fn ca_hash(ca_pem: &[u8]) -> String {
    hex(&Sha256::digest(ca_pem))
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The full form that goes into server/token.
pub(crate) fn full(ca_pem: &[u8], user: &str, password: &str) -> String {
    format!("K10{}::{user}:{password}", ca_hash(ca_pem))
}

/// `count` random bytes in hexadecimal.
pub(crate) fn random_hex(count: usize) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut bytes = vec![0; count];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(hex(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_a_token() {
        let hash = "ab".repeat(32);
        for (text, expected_hash, password) in [
            (format!("K10{hash}::server:pw"), Some(hash.as_str()), "pw"),
            (format!("K10{hash}::node:p:w"), Some(hash.as_str()), "p:w"),
            ("pw".to_owned(), None, "pw"),
            (" pw\n".to_owned(), None, "pw"),
        ] {
            let token = Token::for_server(&text).unwrap();
            assert_eq!(
                (token.ca_hash.as_deref(), token.password.as_str()),
                (expected_hash, password),
                "{text}"
            );
        }
        for text in ["", "K10abc::server:pw", "K10", "abcdef.0123456789abcdef"] {
            assert!(Token::for_server(text).is_err(), "{text}");
        }
        assert!(Token::parse("abcdef.0123456789abcdef").unwrap().bootstrap);
    }

    #[test]
    fn the_hash_is_checked_only_with_the_full_form() {
        let ca = b"-----BEGIN CERTIFICATE-----";
        assert_eq!(Token::parse("pw").unwrap().check_ca(ca), Ok(()));
        assert_eq!(
            Token::parse(&full(ca, "server", "pw"))
                .unwrap()
                .check_ca(ca),
            Ok(())
        );
        let wrong = format!("K10{}::server:pw", "0".repeat(64));
        let error = Token::parse(&wrong).unwrap().check_ca(ca).unwrap_err();
        assert!(
            error.starts_with("token CA hash does not match the Cluster CA certificate hash: 000"),
            "{error}"
        );
    }

    #[test]
    fn debug_shows_no_password() {
        assert!(!format!("{:?}", Token::parse("canary").unwrap()).contains("canary"));
    }
}
