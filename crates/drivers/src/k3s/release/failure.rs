//! Why a release cannot be had; every message says what to do.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use trueup_model::id::Digest;

/// Why a release cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// The base URL is none.
    #[error("the release base URL cannot be used: {why}; set k3s.releases to https://HOST/PATH")]
    Base {
        /// What is wrong with it.
        why: String,
    },
    /// A version that cannot be one.
    #[error("{version:?} is not a k3s version; write it like v1.36.3+k3s1")]
    Version {
        /// The version.
        version: String,
    },
    /// The server has no such file.
    #[error("there is no release {version} at {url}; look at the version and at k3s.releases")]
    NotFound {
        /// The version.
        version: String,
        /// What was asked for.
        url: String,
    },
    /// The checksum file is not one.
    #[error("the checksum file {url} cannot be used: {why}; look at it with curl")]
    Checksums {
        /// What was asked for.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The bytes are not those of the release.
    #[error(
        "the checksum does not match: {url} has SHA-256 {got}, and its checksum file says {wanted}; \
         nothing of it is used: it is fetched again, look at the server if it stays so"
    )]
    ChecksumMismatch {
        /// What was asked for.
        url: String,
        /// What the checksum file says.
        wanted: Digest,
        /// What came.
        got: Digest,
    },
    /// The connection ended too early.
    #[error("{url} ended after {got} bytes{}; it is fetched again", of_wanted(*.wanted))]
    Truncated {
        /// What was asked for.
        url: String,
        /// Bytes that came.
        got: u64,
        /// Bytes that were announced.
        wanted: Option<u64>,
    },
    /// No answer.
    #[error("{url} does not answer: {why}; it is tried again")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// What happened.
        why: String,
    },
    /// More than any honest release.
    #[error("{url} has more than {max} bytes, which no release has; look at k3s.releases")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// The limit.
        max: u64,
    },
    /// The server answered with an error.
    #[error("{url} answers with HTTP status {code}; it is tried again")]
    Server {
        /// What was asked for.
        url: String,
        /// HTTP code.
        code: u16,
    },
    /// No space left for the cache.
    #[error("no space left for the release cache {path}; free space on its file system")]
    DiskFull {
        /// The file or folder.
        path: Utf8PathBuf,
    },
    /// The cache cannot be used.
    #[error("the release cache {path} cannot be used: {why}; let the user of trueup own it")]
    Cache {
        /// The file or folder.
        path: Utf8PathBuf,
        /// What happened.
        why: String,
    },
}

fn of_wanted(wanted: Option<u64>) -> String {
    wanted.map_or_else(String::new, |wanted| format!(" of {wanted}"))
}

impl ReleaseError {
    /// It may work later without anybody doing anything here.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Truncated { .. }
                | Self::Server { .. }
                | Self::ChecksumMismatch { .. }
        )
    }

    pub(super) fn disk(path: &Utf8Path, error: &io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Cache {
                path,
                why: error.to_string(),
            },
        }
    }
}
