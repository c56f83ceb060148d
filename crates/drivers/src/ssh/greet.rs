//! A machine that nobody has pinned yet: which host key does it show? Jump hosts on
//! the way are believed by their pins only, and nothing is logged in to at the end.

use trueup_model::port::NodeError;

use super::connect::connect;
use super::settings::SshSettings;

/// A host key as a machine shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownKey {
    /// `ssh-ed25519`.
    pub kind: String,
    /// `SHA256:…`, as `ssh-keygen -l` shows it.
    pub fingerprint: String,
    /// The whole line, for a Node document.
    pub line: String,
}

/// Asks the last machine of `settings` for its host key.
///
/// # Errors
/// It cannot be reached, or a machine on the way shows a key that is not pinned.
pub async fn shown_key(settings: &SshSettings) -> Result<ShownKey, NodeError> {
    let mut asking = settings.clone();
    asking.target = asking.target.without_pins();
    let place = asking.target.place();
    match connect(&asking).await {
        Err(NodeError::HostKey {
            address,
            shown,
            line,
        }) if address == place && !line.is_empty() => Ok(ShownKey {
            kind: line.split(' ').next().unwrap_or_default().to_owned(),
            fingerprint: shown,
            line,
        }),
        Err(error) => Err(error),
        Ok(_) => Err(NodeError::Reply {
            what: "the key exchange".to_owned(),
            why: "it ended well with nothing pinned".to_owned(),
        }),
    }
}

/// `SHA256:…` of a public key line; `None`: it is none.
#[must_use]
pub fn fingerprint(line: &str) -> Option<String> {
    let key = russh::keys::PublicKey::from_openssh(line.trim()).ok()?;
    Some(key.fingerprint(russh::keys::HashAlg::Sha256).to_string())
}
