//! Releases of k3s: the published digest of a version's binary, and the binary
//! itself, downloaded once and verified. Nothing unverified is ever returned.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use futures::StreamExt as _;
use reqwest::{Client, Response, StatusCode, Url};
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;
use trueup_model::id::{Digest, hex};

use super::cache::Cache;

/// A server that does not take a connection in this time is away.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// So long nothing may arrive in the middle of an answer.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);
/// 90 MB at 100 KB/s.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(15 * 60);
/// A few lines of text.
const CHECKSUMS_LIMIT: Duration = Duration::from_secs(30);
/// The checksum file has some 15 lines of 90 bytes.
const CHECKSUMS_BYTES_MAX: usize = 64 * 1024;
/// k3s' binary has 70 to 90 MB.
const BINARY_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// A failure is not asked for again at once: every look at a fleet asks.
const FAILURE_KEPT: Duration = Duration::from_secs(5);

/// Architecture of a machine, in k3s' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arch {
    /// x86_64.
    Amd64,
    /// aarch64.
    Arm64,
}

impl Arch {
    /// The name of the binary among a release's assets.
    fn asset(self) -> &'static str {
        match self {
            Self::Amd64 => "k3s",
            Self::Arm64 => "k3s-arm64",
        }
    }
    fn checksums(self) -> &'static str {
        match self {
            Self::Amd64 => "sha256sum-amd64.txt",
            Self::Arm64 => "sha256sum-arm64.txt",
        }
    }
}

/// Why a release cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// The base URL of the host configuration is none.
    #[error("{base:?} is not the base URL of a release server: {why}")]
    Base {
        /// The text.
        base: String,
        /// What is wrong with it.
        why: String,
    },
    /// Not a version.
    #[error("{0:?} is not a k3s version like v1.33.4+k3s1")]
    Version(String),
    /// The server has no such release.
    #[error("there is no {url} (404): is the version spelled right?")]
    NotFound {
        /// What was asked for.
        url: String,
    },
    /// The server answers otherwise than with content.
    #[error("{url} answers {code}")]
    Status {
        /// What was asked for.
        url: String,
        /// HTTP status.
        code: u16,
    },
    /// No answer.
    #[error("{url} cannot be reached: {why}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// What happened.
        why: String,
    },
    /// The answer ended in the middle.
    #[error("{url} ended after {bytes} bytes: {why}")]
    Truncated {
        /// What was asked for.
        url: String,
        /// What had arrived.
        bytes: u64,
        /// What happened.
        why: String,
    },
    /// The answer is larger than it can be.
    #[error("{url} has more than {max} bytes")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// The limit.
        max: u64,
    },
    /// The checksum file does not name the binary.
    #[error("{url} names no checksum of {asset}")]
    NoChecksum {
        /// The checksum file.
        url: String,
        /// The binary.
        asset: &'static str,
    },
    /// The bytes are not those that were published.
    #[error("the checksum does not match: {url} has {found}, published is {published}; it is not used")]
    Checksum {
        /// The binary.
        url: String,
        /// What arrived.
        found: Digest,
        /// What the checksum file says.
        published: Digest,
    },
    /// The cache in the state directory.
    #[error("cannot keep releases in {dir}: {why}")]
    Cache {
        /// The folder.
        dir: String,
        /// What happened.
        why: String,
    },
}

/// Releases below one base URL, kept in one folder.
#[derive(Debug)]
pub struct Releases {
    base: Url,
    client: Client,
    cache: Cache,
    known: Mutex<BTreeMap<String, Known>>,
    /// One download at a time: machines ask for the same binary together.
    downloading: Mutex<()>,
}

#[derive(Debug, Clone)]
enum Known {
    Published(Digest),
    Failed(ReleaseError, Instant),
}

impl Releases {
    /// Releases at `<base>/<version>/<asset>`, kept in `dir`.
    pub fn new(base: &str, dir: &Utf8Path) -> Result<Self, ReleaseError> {
        let bad = |why: String| ReleaseError::Base {
            base: base.to_owned(),
            why,
        };
        let url = Url::parse(base).map_err(|error| bad(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(bad("it must begin with http:// or https://".to_owned()));
        }
        // reqwest takes the process' provider; where there is one, it stays.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            drop(rustls::crypto::ring::default_provider().install_default());
        }
        let client = Client::builder()
            .connect_timeout(CONNECT_LIMIT)
            .read_timeout(SILENCE_LIMIT)
            .user_agent(concat!("trueup/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| bad(error.to_string()))?;
        let cache = Cache::open(dir).map_err(|error| ReleaseError::Cache {
            dir: dir.to_string(),
            why: error.to_string(),
        })?;
        Ok(Self {
            base: url,
            client,
            cache,
            known: Mutex::default(),
            downloading: Mutex::default(),
        })
    }

    /// The published digest of a version's binary. Asked of the server once.
    pub async fn digest(&self, version: &str, arch: Arch) -> Result<Digest, ReleaseError> {
        check_version(version)?;
        let name = format!("{version}-{}", arch.asset());
        let mut known = self.known.lock().await;
        match known.get(&name) {
            Some(Known::Published(digest)) => return Ok(digest.clone()),
            Some(Known::Failed(error, when)) if when.elapsed() < FAILURE_KEPT => {
                return Err(error.clone());
            }
            Some(Known::Failed(..)) | None => {}
        }
        let result = match self.cache.published(&name) {
            Some(digest) => Ok(digest),
            None => self.ask_digest(version, arch).await,
        };
        let entry = match &result {
            Ok(digest) => {
                self.cache
                    .remember(&name, digest)
                    .map_err(|error| self.cache_error(&error))?;
                Known::Published(digest.clone())
            }
            Err(error) => Known::Failed(error.clone(), Instant::now()),
        };
        known.insert(name, entry);
        result
    }

    /// The path of a version's binary, verified now.
    pub async fn binary(&self, version: &str, arch: Arch) -> Result<Utf8PathBuf, ReleaseError> {
        let published = self.digest(version, arch).await?;
        let _one = self.downloading.lock().await;
        let cache = self.cache.clone();
        let wanted = published.clone();
        let found = tokio::task::spawn_blocking(move || cache.find(&wanted))
            .await
            .map_err(|error| self.cache_error(&std::io::Error::other(error)))?
            .map_err(|error| self.cache_error(&error))?;
        if let Some(path) = found {
            return Ok(path);
        }
        let download = self.download(version, arch, &published);
        let url = self.url(version, arch.asset());
        let result = tokio::time::timeout(DOWNLOAD_LIMIT, download)
            .await
            .unwrap_or_else(|_| {
                Err(ReleaseError::Unreachable {
                    url: url.to_string(),
                    why: format!("it took longer than {} s", DOWNLOAD_LIMIT.as_secs()),
                })
            });
        if matches!(result, Err(ReleaseError::Checksum { .. })) {
            // Whichever of the two is wrong: both are asked for again next time.
            let name = format!("{version}-{}", arch.asset());
            self.cache.forget(&name);
            self.known.lock().await.remove(&name);
        }
        result
    }

    /// `+` of a version is a space to some servers: it is written `%2B`.
    fn url(&self, version: &str, asset: &str) -> Url {
        let mut url = self.base.clone();
        let path = format!(
            "{}/{}/{asset}",
            self.base.path().trim_end_matches('/'),
            version.replace('+', "%2B")
        );
        url.set_path(&path);
        url
    }

    async fn ask_digest(&self, version: &str, arch: Arch) -> Result<Digest, ReleaseError> {
        let url = self.url(version, arch.checksums());
        let asking = async {
            let response = self.get(&url).await?;
            let mut text = Vec::new();
            let mut stream = response.bytes_stream();
            while let Some(piece) = stream.next().await {
                let piece = piece.map_err(|error| truncated(&url, text.len() as u64, &error))?;
                if text.len().saturating_add(piece.len()) > CHECKSUMS_BYTES_MAX {
                    return Err(ReleaseError::TooLarge {
                        url: url.to_string(),
                        max: CHECKSUMS_BYTES_MAX as u64,
                    });
                }
                text.extend_from_slice(&piece);
            }
            Ok(text)
        };
        let text = tokio::time::timeout(CHECKSUMS_LIMIT, asking)
            .await
            .map_err(|_| ReleaseError::Unreachable {
                url: url.to_string(),
                why: format!("it took longer than {} s", CHECKSUMS_LIMIT.as_secs()),
            })??;
        checksum_of(&String::from_utf8_lossy(&text), arch.asset()).ok_or_else(|| {
            ReleaseError::NoChecksum {
                url: url.to_string(),
                asset: arch.asset(),
            }
        })
    }

    async fn get(&self, url: &Url) -> Result<Response, ReleaseError> {
        let response = self.client.get(url.clone()).send().await.map_err(|error| {
            ReleaseError::Unreachable {
                url: url.to_string(),
                why: cause(&error),
            }
        })?;
        match response.status() {
            StatusCode::OK => Ok(response),
            StatusCode::NOT_FOUND => Err(ReleaseError::NotFound {
                url: url.to_string(),
            }),
            other => Err(ReleaseError::Status {
                url: url.to_string(),
                code: other.as_u16(),
            }),
        }
    }

    async fn download(
        &self,
        version: &str,
        arch: Arch,
        published: &Digest,
    ) -> Result<Utf8PathBuf, ReleaseError> {
        let url = self.url(version, arch.asset());
        let too_large = || ReleaseError::TooLarge {
            url: url.to_string(),
            max: BINARY_BYTES_MAX,
        };
        let response = self.get(&url).await?;
        if response.content_length().unwrap_or(0) > BINARY_BYTES_MAX {
            return Err(too_large());
        }
        let mut file = self
            .cache
            .download()
            .map_err(|error| self.cache_error(&error))?;
        let mut hasher = Sha256::new();
        let mut bytes = 0_u64;
        let mut stream = response.bytes_stream();
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(|error| truncated(&url, bytes, &error))?;
            bytes = bytes.saturating_add(piece.len() as u64);
            if bytes > BINARY_BYTES_MAX {
                return Err(too_large());
            }
            hasher.update(&piece);
            file.write_all(&piece)
                .map_err(|error| self.cache_error(&error))?;
        }
        let found = Digest(hex(&hasher.finalize()));
        if found != *published {
            return Err(ReleaseError::Checksum {
                url: url.to_string(),
                found,
                published: published.clone(),
            });
        }
        let cache = self.cache.clone();
        tokio::task::spawn_blocking(move || cache.keep(file, &found))
            .await
            .map_err(|error| self.cache_error(&std::io::Error::other(error)))?
            .map_err(|error| self.cache_error(&error))
    }

    fn cache_error(&self, error: &std::io::Error) -> ReleaseError {
        ReleaseError::Cache {
            dir: self.cache.dir().to_string(),
            why: error.to_string(),
        }
    }
}

fn check_version(version: &str) -> Result<(), ReleaseError> {
    let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'+' | b'-');
    if version.starts_with('v') && version.len() <= 64 && version.bytes().all(ok) {
        Ok(())
    } else {
        Err(ReleaseError::Version(version.chars().take(80).collect()))
    }
}

/// The digest of `asset` in a file as `sha256sum` writes it.
pub(super) fn checksum_of(text: &str, asset: &str) -> Option<Digest> {
    text.lines().find_map(|line| {
        let (digest, name) = line.split_once(char::is_whitespace)?;
        let name = name.trim().trim_start_matches('*');
        let whole = digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit());
        (name == asset && whole).then(|| Digest(digest.to_ascii_lowercase()))
    })
}

fn truncated(url: &Url, bytes: u64, error: &reqwest::Error) -> ReleaseError {
    ReleaseError::Truncated {
        url: url.to_string(),
        bytes,
        why: cause(error),
    }
}

/// reqwest's own message repeats the URL; the innermost one says what happened.
fn cause(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
