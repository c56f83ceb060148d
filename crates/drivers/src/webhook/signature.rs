//! Signatures of webhooks: HMAC-SHA256 over the body as it was sent.

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderMap;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;

/// Headers that carry it, and what stands before its hex digits. Gitea sends both
/// forms (services/webhook/deliver.go, v1.26), GitHub the second.
const HEADERS: &[(&str, &str)] = &[
    ("x-hub-signature-256", "sha256="),
    ("x-gitea-signature", ""),
    ("x-forgejo-signature", ""),
];

/// Whether a body was signed with the secret. Every signature that is there must be
/// right, compared in constant time.
pub(super) fn is_right(secret: &SecretString, headers: &HeaderMap, body: &[u8]) -> bool {
    let mut found = false;
    for (name, prefix) in HEADERS {
        for value in headers.get_all(*name) {
            let digits = value
                .to_str()
                .ok()
                .and_then(|text| text.strip_prefix(prefix));
            let Some(claimed) = digits.and_then(bytes) else {
                return false;
            };
            let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes())
            else {
                return false;
            };
            mac.update(body);
            if mac.verify_slice(&claimed).is_err() {
                return false;
            }
            found = true;
        }
    }
    found
}

/// 32 bytes of 64 hex digits.
fn bytes(digits: &str) -> Option<Vec<u8>> {
    if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    (0..64)
        .step_by(2)
        .map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
pub(super) fn sign(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    trueup_model::id::hex(&mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_example_of_githubs_documentation() {
        // docs.github.com, "Validating webhook deliveries": the values to test with.
        let secret = "It's a Secret to Everybody".to_owned().into();
        let mut headers = HeaderMap::new();
        headers.insert(
            "x-hub-signature-256",
            HeaderValue::from_static(
                "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
            ),
        );
        assert!(is_right(&secret, &headers, b"Hello, World!"));
        assert!(!is_right(&secret, &headers, b"Hello, World?"));
        assert!(!is_right(
            &"another".to_owned().into(),
            &headers,
            b"Hello, World!"
        ));
    }

    #[test]
    fn nothing_short_of_a_right_signature_will_do() {
        let secret = "s".to_owned().into();
        let right = sign("s", b"x");
        let with = |pairs: &[(&'static str, String)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, HeaderValue::from_str(value).unwrap());
            }
            is_right(&secret, &headers, b"x")
        };
        assert!(with(&[("x-gitea-signature", right.clone())]));
        assert!(with(&[("x-gitea-signature", right.to_uppercase())]));
        assert!(!with(&[]));
        assert!(!with(&[("x-gitea-signature", String::new())]));
        assert!(!with(&[("x-gitea-signature", right[..62].to_owned())]));
        assert!(!with(&[("x-gitea-signature", "ü".repeat(32))]));
        assert!(!with(&[("x-hub-signature-256", right.clone())]));
        let wrong = "0".repeat(64);
        assert!(!with(&[
            ("x-gitea-signature", right),
            ("x-gitea-signature", wrong)
        ]));
    }
}
