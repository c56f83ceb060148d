//! Files.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use trueup_model::id::Digest;

/// Bytes, saved as base64.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Stored(Vec<u8>);

impl Stored {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.0)
    }
}

// A file may be a secret.
impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stored({} bytes)", self.0.len())
    }
}

impl From<Stored> for String {
    fn from(stored: Stored) -> Self {
        STANDARD.encode(stored.0)
    }
}

impl TryFrom<String> for Stored {
    type Error = base64::DecodeError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        STANDARD.decode(text).map(Self)
    }
}

/// A regular file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SimFile {
    pub(crate) content: Stored,
    /// Four octal digits.
    pub(crate) mode: String,
    pub(crate) owner: String,
    pub(crate) group: String,
    pub(crate) mtime_s: i64,
}
