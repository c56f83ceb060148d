//! Releases of k3s that exist here only: made-up bytes with a digest.

use secrecy::SecretSlice;
use trueup_model::id::Digest;

/// A release.
#[derive(Debug, Clone, Copy)]
pub struct Release<'a>(pub &'a str);

impl Release<'_> {
    /// SHA-256 of its binary; an error for what k3s would never name a release.
    ///
    /// # Errors
    /// The version is not of the form `v1.36.3+k3s1`: no such release exists.
    pub fn digest(&self) -> Result<Digest, String> {
        self.bytes().map(|bytes| Digest::of(&bytes))
    }

    /// Its binary.
    ///
    /// # Errors
    /// As [`Release::digest`].
    pub fn binary(&self) -> Result<SecretSlice<u8>, String> {
        self.bytes().map(SecretSlice::from)
    }

    fn bytes(&self) -> Result<Vec<u8>, String> {
        let sound = self.0.strip_prefix('v').and_then(|rest| {
            let (numbers, build) = rest.split_once("+k3s")?;
            let count = numbers
                .split('.')
                .filter(|n| n.parse::<u32>().is_ok())
                .count();
            (count == 3 && build.parse::<u32>().is_ok()).then_some(())
        });
        match sound {
            Some(()) => Ok(binary(self.0)),
            None => Err(format!("the simulated releases have no {}", self.0)),
        }
    }
}

const MARK: &str = "simulated k3s ";

/// The bytes of a release's binary.
fn binary(version: &str) -> Vec<u8> {
    format!("{MARK}{version}\n").into_bytes()
}

/// The version of a file that is such a binary.
pub(crate) fn version_of(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes)
        .ok()?
        .strip_prefix(MARK)?
        .strip_suffix('\n')
}
