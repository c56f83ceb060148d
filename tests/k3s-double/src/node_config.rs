//! The annotations that tell what a running process was started with (nodeconfig, checked).

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::settings::Settings;

const MASK: &str = "********";

fn is_secret(name: &str) -> bool {
    [
        "token",
        "datastore-endpoint",
        "access-key",
        "secret-key",
        "vpn-auth",
        "session-token",
    ]
    .iter()
    .any(|word| name == *word || name.ends_with(&format!("-{word}")))
}

fn is_secret_variable(name: &str) -> bool {
    ["TOKEN", "DATASTORE_ENDPOINT", "KEY", "VPN_AUTH"]
        .iter()
        .any(|word| name.ends_with(word))
}

/// k3s.io/node-args, node-env and node-config-hash.
pub(crate) fn annotations(settings: &Settings) -> Value {
    let mut arguments = vec![settings.role.name().to_owned()];
    for (name, value) in &settings.arguments {
        arguments.push(format!("--{name}"));
        arguments.push(if is_secret(name) {
            MASK.to_owned()
        } else {
            value.clone()
        });
    }
    let environment: BTreeMap<&str, &str> = settings
        .environment
        .iter()
        .map(|(name, value)| {
            (
                name.as_str(),
                if is_secret_variable(name) {
                    MASK
                } else {
                    value.as_str()
                },
            )
        })
        .collect();
    let arguments = json!(arguments).to_string();
    let environment = json!(environment).to_string();
    let hash = base32(&Sha256::digest(format!("{arguments}{environment}")));
    json!({
        "k3s.io/node-args": arguments,
        "k3s.io/node-env": environment,
        "k3s.io/node-config-hash": hash,
    })
}

/// RFC 4648 base 32 with padding.
fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut text = String::new();
    for chunk in bytes.chunks(5) {
        let mut group = 0_u64;
        for index in 0..5 {
            group = (group << 8) | u64::from(chunk.get(index).copied().unwrap_or(0));
        }
        let digits = (chunk.len() * 8).div_ceil(5);
        for digit in 0..8 {
            let value = usize::try_from((group >> (35 - 5 * digit)) & 31).unwrap_or(0);
            let letter = ALPHABET.get(value).copied().map_or('=', char::from);
            text.push(if digit < digits { letter } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Role;

    #[test]
    fn base32_of_the_rfc() {
        for (text, expected) in [
            ("", ""),
            ("f", "MY======"),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI======"),
        ] {
            assert_eq!(base32(text.as_bytes()), expected);
        }
    }

    #[test]
    fn secrets_are_masked_and_do_not_change_the_hash() {
        let of = |token: &str, label: &str| {
            let arguments = [
                "--config=/nonexistent".to_owned(),
                format!("--token={token}"),
                format!("--node-label={label}"),
            ];
            let environment = [("K3S_TOKEN".to_owned(), token.to_owned())].into();
            annotations(&Settings::load(Role::Server, &arguments, &environment).unwrap())
        };
        let first = of("canary", "a=1");
        assert!(!first.to_string().contains("canary"), "{first}");
        assert_eq!(first, of("other", "a=1"));
        assert_ne!(
            first["k3s.io/node-config-hash"],
            of("other", "a=2")["k3s.io/node-config-hash"]
        );
    }
}
