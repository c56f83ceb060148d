//! Releases of k3s, from a base URL laid out like GitHub's downloads:
//! `<base>/<version>/k3s` beside `<base>/<version>/sha256sum-amd64.txt`
//! (`k3s-arm64` and `sha256sum-arm64.txt` for 64-bit ARM).
//!
//! No byte of a download leaves this room before its SHA-256 is that of the
//! release's checksum file. Where the base URL is HTTPS, the file's origin is the
//! certificate's; where it is HTTP, it is whoever answers there.

mod cache;
mod download;
mod failure;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use trueup_model::id::Digest;

pub use self::failure::ReleaseError;

use self::cache::{Cache, Stamp};
use self::download::Downloader;

/// k3s 1.36 has 70 MiB.
const BINARY_BYTES_MAX: u64 = 200 * 1024 * 1024;
/// A line per asset; real ones have a dozen.
const CHECKSUMS_BYTES_MAX: u64 = 64 * 1024;

/// Deadlines of one download.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Until the connection stands.
    pub(crate) connect: Duration,
    /// Between two pieces.
    pub(crate) idle: Duration,
    /// All of it: 70 MiB over a slow line.
    pub(crate) total: Duration,
    /// A failed look-up of a digest is not repeated for so long: every look at a
    /// fleet asks for it.
    pub(crate) failure_kept: Duration,
}

const LIMITS: Limits = Limits {
    connect: Duration::from_secs(10),
    idle: Duration::from_secs(30),
    total: Duration::from_secs(15 * 60),
    failure_kept: Duration::from_secs(5),
};

/// What a machine is made of, as far as k3s is published for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arch {
    /// `x86_64`.
    Amd64,
    /// `aarch64`.
    Arm64,
}

impl Arch {
    /// The word of `uname -m`; `None` for what k3s is not published for (32-bit ARM
    /// and s390x are, and are not supported here).
    pub fn of_machine(word: &str) -> Option<Self> {
        match word {
            "x86_64" | "amd64" => Some(Self::Amd64),
            "aarch64" | "arm64" => Some(Self::Arm64),
            _ => None,
        }
    }

    fn checksums(self) -> &'static str {
        match self {
            Self::Amd64 => "sha256sum-amd64.txt",
            Self::Arm64 => "sha256sum-arm64.txt",
        }
    }

    fn binary(self) -> &'static str {
        match self {
            Self::Amd64 => "k3s",
            Self::Arm64 => "k3s-arm64",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        })
    }
}

/// Releases of k3s and the cache of what was fetched of them.
#[derive(Debug)]
pub struct Releases {
    base: String,
    cache: Cache,
    downloader: Downloader,
    known: Mutex<Known>,
    failure_kept: Duration,
    /// One question for a digest at a time, too.
    asking: tokio::sync::Mutex<()>,
    /// One download at a time: many machines wait for the same binary.
    fetching: tokio::sync::Mutex<()>,
}

/// What this process has seen of the cache.
#[derive(Debug, Default)]
struct Known {
    digests: BTreeMap<(String, Arch), Digest>,
    failures: BTreeMap<(String, Arch), (ReleaseError, Instant)>,
    /// Files whose content was found right, as they were then.
    right: BTreeSet<Stamp>,
}

impl Known {
    fn answer(
        &self,
        key: &(String, Arch),
        failure_kept: Duration,
    ) -> Option<Result<Digest, ReleaseError>> {
        if let Some(digest) = self.digests.get(key) {
            return Some(Ok(digest.clone()));
        }
        let (error, at) = self.failures.get(key)?;
        (at.elapsed() < failure_kept).then(|| Err(error.clone()))
    }

    fn remember(&mut self, key: (String, Arch), answer: &Result<Digest, ReleaseError>) {
        match answer {
            Ok(digest) => {
                self.failures.remove(&key);
                self.digests.insert(key, digest.clone());
            }
            Err(error) => {
                self.failures.insert(key, (error.clone(), Instant::now()));
            }
        }
    }
}

impl Releases {
    /// Releases below `base`; what is fetched is kept in `cache`.
    pub fn new(base: &str, cache: &Utf8Path) -> Result<Self, ReleaseError> {
        Self::with_limits(base, cache, LIMITS)
    }

    pub(crate) fn with_limits(
        base: &str,
        cache: &Utf8Path,
        limits: Limits,
    ) -> Result<Self, ReleaseError> {
        let base = download::checked_base(base)?;
        Ok(Self {
            downloader: Downloader::new(&base, limits)?,
            base,
            cache: Cache::new(cache),
            known: Mutex::default(),
            failure_kept: limits.failure_kept,
            asking: tokio::sync::Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
        })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Sets and maps are whole whoever panicked.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn url(&self, version: &str, asset: &str) -> String {
        format!("{}/{}/{asset}", self.base, version.replace('+', "%2B"))
    }

    /// SHA-256 of the binary of a release. Fetched once: a published release does
    /// not change, and one that does is not to be believed.
    pub async fn digest(&self, version: &str, arch: Arch) -> Result<Digest, ReleaseError> {
        check_version(version)?;
        let _one = self.asking.lock().await;
        let key = (version.to_owned(), arch);
        if let Some(known) = self.known().answer(&key, self.failure_kept) {
            return known;
        }
        let answer = match self.cache.digest(version, arch) {
            Some(digest) => Ok(digest),
            None => self.ask_digest(version, arch).await,
        };
        self.known().remember(key, &answer);
        answer
    }

    async fn ask_digest(&self, version: &str, arch: Arch) -> Result<Digest, ReleaseError> {
        let url = self.url(version, arch.checksums());
        let bytes = self
            .downloader
            .small(&url, version, CHECKSUMS_BYTES_MAX)
            .await?;
        let digest = find_digest(&bytes, arch.binary())
            .map_err(|why| ReleaseError::Checksums { url, why })?;
        self.cache.put_digest(version, arch, &digest)?;
        Ok(digest)
    }

    /// The verified binary of a release, as a file in the cache. Open it at once:
    /// only the newest few are kept.
    pub async fn binary(&self, version: &str, arch: Arch) -> Result<Utf8PathBuf, ReleaseError> {
        let digest = self.digest(version, arch).await?;
        let _one = self.fetching.lock().await;
        if let Some(path) = self.cached(&digest).await? {
            return Ok(path);
        }
        let url = self.url(version, arch.binary());
        let file = self.cache.new_file()?;
        let (file, got) = self
            .downloader
            .large(&url, version, BINARY_BYTES_MAX, file)
            .await?;
        if got != digest {
            // Which of the two files is wrong is unknown: both are fetched again.
            self.known().digests.remove(&(version.to_owned(), arch));
            self.cache.forget_digest(version, arch);
            return Err(ReleaseError::ChecksumMismatch {
                url,
                wanted: digest,
                got,
            });
        }
        let (path, stamp) = self.cache.keep(file, &digest)?;
        self.known().right.insert(stamp);
        Ok(path)
    }

    /// The cached file, if its content is right. One that was found right and has
    /// not been touched since is not read again.
    async fn cached(&self, digest: &Digest) -> Result<Option<Utf8PathBuf>, ReleaseError> {
        let Some((path, stamp)) = self.cache.find(digest) else {
            return Ok(None);
        };
        if self.known().right.contains(&stamp) {
            return Ok(Some(path));
        }
        if cache::digest_of(&path).await.as_ref() == Some(digest) {
            self.known().right.insert(stamp);
            return Ok(Some(path));
        }
        tracing::warn!(%path, "a cached release is damaged; it is fetched again");
        Ok(None)
    }
}

/// A version becomes part of a URL and of a file name.
fn check_version(version: &str) -> Result<(), ReleaseError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || ".+-_".contains(c);
    let sound = version.starts_with('v') && version.len() <= 64 && version.chars().all(plain);
    if sound {
        return Ok(());
    }
    Err(ReleaseError::Version {
        version: version.chars().take(64).collect(),
    })
}

/// `<64 hex digits>  <name>`, as `sha256sum` writes it (`*` before the name in
/// binary mode).
fn find_digest(bytes: &[u8], name: &str) -> Result<Digest, String> {
    let text = String::from_utf8_lossy(bytes);
    let mut found = text.lines().filter_map(|line| {
        let (digest, file) = line.split_once(char::is_whitespace)?;
        let file = file.trim().trim_start_matches('*');
        (file == name).then_some(digest)
    });
    let digest = found
        .next()
        .ok_or_else(|| format!("it has no line for {name}"))?;
    if found.next().is_some_and(|other| other != digest) {
        return Err(format!("it has two different lines for {name}"));
    }
    let is_hex = digest
        .bytes()
        .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if digest.len() == 64 && is_hex {
        Ok(Digest(digest.to_owned()))
    } else {
        Err(format!("its line for {name} has no SHA-256"))
    }
}

#[cfg(test)]
mod tests;
