//! The hash that the message authentication code of a file seals.

use std::fmt::Write;

use sha2::{Digest, Sha256, Sha512};
use zeroize::Zeroizing;

use crate::document::Value;

/// SHA-512 over the plain bytes of all leaves in document order, without separators. Comments and
/// nulls do not count.
#[derive(Debug, Clone)]
pub struct MacInput {
    hash: Sha512,
    only_encrypted: bool,
}

impl MacInput {
    /// An empty input. With `only_encrypted`, clear values are left out and the hash is begun
    /// with SHA-256 of the word "sops".
    #[must_use]
    pub fn new(only_encrypted: bool) -> Self {
        let mut hash = Sha512::new();
        if only_encrypted {
            hash.update(Sha256::digest(b"sops"));
        }
        Self {
            hash,
            only_encrypted,
        }
    }

    /// Adds a leaf in its plain form; `encrypted` is what the file's rule says of its path.
    pub fn leaf(&mut self, value: &Value, encrypted: bool) {
        if (encrypted || !self.only_encrypted)
            && let Some(bytes) = plain_bytes(value)
        {
            self.hash.update(&bytes);
        }
    }

    /// The code: 128 upper-case hexadecimal digits.
    #[must_use]
    pub fn finish(self) -> String {
        self.hash
            .finalize()
            .iter()
            .fold(String::with_capacity(128), |mut code, byte| {
                // Writing to a String cannot fail.
                let _ = write!(code, "{byte:02X}");
                code
            })
    }
}

/// The bytes that sops hashes for a value: Go's shortest form without exponent for floats,
/// Python's words for booleans.
fn plain_bytes(value: &Value) -> Option<Zeroizing<Vec<u8>>> {
    Some(Zeroizing::new(match value {
        Value::Bool(true) => b"True".to_vec(),
        Value::Bool(false) => b"False".to_vec(),
        Value::Int(number) => number.to_string().into_bytes(),
        Value::UInt(number) => number.to_string().into_bytes(),
        Value::Float(number) => go_float(*number).into_bytes(),
        Value::Timestamp(text) | Value::String(text) => text.clone().into_bytes(),
        Value::Null | Value::Sequence(_) | Value::Mapping(_) => return None,
    }))
}

fn go_float(number: f64) -> String {
    if number.is_nan() {
        "NaN".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        number.to_string()
    }
}
