//! What can go wrong between an encrypted file and its values.

use std::sync::Arc;

use camino::Utf8PathBuf;
use trueup_model::document::{Diagnostic, Span, codes};
use trueup_model::sops::Malformed;

/// Why an identity file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read.
    #[error("cannot read the age identity file {path}")]
    Read {
        /// The file.
        path: Utf8PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// Others than the owner may read or write it.
    #[error(
        "the age identity file {path} has mode {mode:04o}: group or others can get at it; \
         run: chmod 600 {path}"
    )]
    Exposed {
        /// The file.
        path: Utf8PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is larger than any identity file.
    #[error("the age identity file {path} is larger than {max} bytes")]
    TooLarge {
        /// The file.
        path: Utf8PathBuf,
        /// The limit in bytes.
        max: u64,
    },
    /// A line is none of the identities that are understood.
    #[error("line {line} of the age identity file {path} {why}")]
    Line {
        /// The file.
        path: Utf8PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it, without its text.
        why: &'static str,
    },
    /// There is no identity in it.
    #[error("the age identity file {path} holds no identity (a line AGE-SECRET-KEY-1…)")]
    Empty {
        /// The file.
        path: Utf8PathBuf,
    },
}

/// Why one value cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ValueFault {
    /// It should be encrypted and is not.
    #[error("it should be encrypted and stands in clear text")]
    Clear,
    /// Its form is wrong.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The ciphertext was changed, moved to another key, or belongs to another file.
    #[error("it was changed, moved from another key, or copied from another file")]
    Authentication,
    /// The plain text is not of the type that the file claims.
    #[error("its content is not of the type that the file gives for it")]
    Type,
}

/// Why a file cannot be decrypted.
#[derive(Debug, thiserror::Error)]
pub enum SopsError {
    /// None of our identities opens it.
    #[error(
        "{file} is encrypted for {}, and this host holds {}",
        listed(recipients),
        listed(held)
    )]
    WrongIdentity {
        /// The file.
        file: Arc<str>,
        /// Public keys that it is encrypted for.
        recipients: Vec<String>,
        /// Public keys of our identities.
        held: Vec<String>,
    },
    /// The wrapped data key is broken.
    #[error("the data key of {file} wrapped for {recipient} is broken: {why}")]
    DataKey {
        /// The file.
        file: Arc<str>,
        /// For whom it was wrapped.
        recipient: String,
        /// What the age library says.
        why: String,
    },
    /// The file has no MAC.
    #[error("{file} has no message authentication code: nothing tells whether it was changed")]
    MissingMac {
        /// The file.
        file: Arc<str>,
    },
    /// The MAC itself or what it seals was changed.
    #[error("{file} was changed after it was encrypted: its message authentication code differs")]
    MacMismatch {
        /// The file.
        file: Arc<str>,
    },
    /// One value cannot be decrypted.
    #[error("{path} in {file}, line {}, cannot be decrypted: {fault}", span.line)]
    Value {
        /// The file.
        file: Arc<str>,
        /// The dotted path of keys.
        path: String,
        /// Where it stands.
        span: Span,
        /// What is wrong with it.
        #[source]
        fault: ValueFault,
    },
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        "nothing".to_owned()
    } else {
        names.join(", ")
    }
}

impl SopsError {
    /// The same as a finding, with its stable code and advice.
    #[must_use]
    pub fn diagnostic(&self) -> Diagnostic {
        let message = self.to_string();
        match self {
            Self::WrongIdentity { file, .. } => {
                Diagnostic::error(codes::SOPS_IDENTITY, file, message).help(
                    "add this host's public key to .sops.yaml and run sops updatekeys FILE, \
                     or give the host an identity that is listed",
                )
            }
            Self::DataKey { file, .. } => Diagnostic::error(codes::SOPS_METADATA, file, message)
                .help("restore the file from its last good commit, or encrypt it again"),
            Self::MissingMac { file } => Diagnostic::error(codes::SOPS_MAC_MISSING, file, message)
                .help("encrypt the file again with sops"),
            Self::MacMismatch { file } => {
                Diagnostic::error(codes::SOPS_MAC_MISMATCH, file, message).help(
                    "compare it with its last good commit; edit such files with sops edit only",
                )
            }
            Self::Value { file, span, .. } => {
                Diagnostic::error(codes::SOPS_TAMPERED, file, message)
                    .at(*span)
                    .concealed()
                    .help(
                        "compare it with its last good commit; edit such files with sops edit only",
                    )
            }
        }
    }
}
