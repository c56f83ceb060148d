//! Which values of a file are encrypted.

use regex::{Regex, RegexBuilder};

/// A rule longer than this is no rule that a person wrote.
const PATTERN_BYTES_MAX: usize = 4096;
/// The compiled form of a pattern; the default of the crate is ten times this.
const COMPILED_BYTES_MAX: usize = 1024 * 1024;

/// The one rule of a file. It is held against every key on the way to a value.
#[derive(Debug, Clone)]
pub enum Selector {
    /// Everything but what lies below a key with this ending (the default is `_unencrypted`).
    UnencryptedSuffix(String),
    /// Only what lies below a key with this ending.
    EncryptedSuffix(String),
    /// Everything but what lies below a matching key.
    UnencryptedRegex(Regex),
    /// Only what lies below a matching key.
    EncryptedRegex(Regex),
}

impl Selector {
    /// What sops assumes where a file says nothing.
    #[must_use]
    pub fn default_rule() -> Self {
        Self::UnencryptedSuffix("_unencrypted".to_owned())
    }

    /// Compiles a pattern. sops itself ignores one that does not compile, and then writes
    /// everything in clear text: so this is an error here.
    ///
    /// # Errors
    /// The pattern is no regular expression of RE2's syntax, or unreasonably large.
    pub fn compile(pattern: &str) -> Result<Regex, String> {
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(format!(
                "the pattern is longer than {PATTERN_BYTES_MAX} bytes"
            ));
        }
        RegexBuilder::new(pattern)
            .size_limit(COMPILED_BYTES_MAX)
            .build()
            .map_err(|error| {
                // The last line says what is wrong, those before it draw the pattern.
                error
                    .to_string()
                    .lines()
                    .last()
                    .unwrap_or_default()
                    .replace("error: ", "")
            })
    }

    /// Whether the value at this path of mapping keys is encrypted.
    #[must_use]
    pub fn selects(&self, path: &[&str]) -> bool {
        let mut keys = path.iter();
        match self {
            Self::UnencryptedSuffix(suffix) => !keys.any(|key| key.ends_with(suffix.as_str())),
            Self::EncryptedSuffix(suffix) => keys.any(|key| key.ends_with(suffix.as_str())),
            Self::UnencryptedRegex(regex) => !keys.any(|key| regex.is_match(key)),
            Self::EncryptedRegex(regex) => keys.any(|key| regex.is_match(key)),
        }
    }
}
