//! Downloads: bounded in size and time, and over HTTPS never sent on to HTTP.

use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Response, StatusCode};
use rustls::RootCertStore;
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;
use trueup_model::id::{Digest, hex};

use super::cache::NewFile;
use super::{Limits, ReleaseError};
use crate::tls::{self, TlsError};

/// GitHub sends downloads on once, to its object store.
const REDIRECTS_MAX: usize = 5;

/// The base without a slash at its end.
pub(super) fn checked_base(base: &str) -> Result<String, ReleaseError> {
    let bad = |why: &str| ReleaseError::Base {
        why: why.to_owned(),
    };
    let url = reqwest::Url::parse(base).map_err(|error| bad(&error.to_string()))?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err(bad("it is neither https:// nor http://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("it holds a user or password, which would be logged"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(bad("it has a query or fragment"));
    }
    Ok(base.trim_end_matches('/').to_owned())
}

#[derive(Debug)]
pub(super) struct Downloader {
    client: Client,
    limits: Limits,
}

impl Downloader {
    pub(super) fn new(base: &str, limits: Limits) -> Result<Self, ReleaseError> {
        // Without HTTPS no authority is needed.
        let roots = if base.starts_with("https:") {
            tls::system_roots().map_err(|error| base_error(&error))?
        } else {
            RootCertStore::empty()
        };
        Self::with_roots(roots, limits)
    }

    pub(super) fn with_roots(roots: RootCertStore, limits: Limits) -> Result<Self, ReleaseError> {
        let client = Client::builder()
            .tls_backend_preconfigured(
                tls::plain_client(roots).map_err(|error| base_error(&error))?,
            )
            .connect_timeout(limits.connect)
            .read_timeout(limits.idle)
            .redirect(Policy::custom(send_on))
            .referer(false)
            .user_agent(concat!("trueup/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| ReleaseError::Base {
                why: error.to_string(),
            })?;
        Ok(Self { client, limits })
    }

    /// A small file, into memory.
    pub(super) async fn small(
        &self,
        url: &str,
        version: &str,
        max: u64,
    ) -> Result<Vec<u8>, ReleaseError> {
        let mut bytes = Vec::new();
        self.stream(url, version, max, |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })
        .await?;
        Ok(bytes)
    }

    /// A large file, onto the disk; its digest.
    pub(super) async fn large(
        &self,
        url: &str,
        version: &str,
        max: u64,
        mut file: NewFile,
    ) -> Result<(NewFile, Digest), ReleaseError> {
        let mut hasher = Sha256::new();
        self.stream(url, version, max, |piece| {
            hasher.update(piece);
            // Pieces of some KiB into the page cache: short enough for this thread.
            file.write_all(piece)
                .map_err(|error| ReleaseError::disk(file.path(), &error))
        })
        .await?;
        Ok((file, Digest(hex(&hasher.finalize()))))
    }

    async fn stream(
        &self,
        url: &str,
        version: &str,
        max: u64,
        take: impl FnMut(&[u8]) -> Result<(), ReleaseError>,
    ) -> Result<(), ReleaseError> {
        let all = self.stream_unbounded(url, version, max, take);
        timeout(self.limits.total, all)
            .await
            .map_err(|_| ReleaseError::Unreachable {
                url: url.to_owned(),
                why: format!("it took longer than {} s", self.limits.total.as_secs()),
            })?
    }

    async fn stream_unbounded(
        &self,
        url: &str,
        version: &str,
        max: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), ReleaseError>,
    ) -> Result<(), ReleaseError> {
        let too_large = || ReleaseError::TooLarge {
            url: url.to_owned(),
            max,
        };
        let sent = self.client.get(url).send().await;
        let mut response = sent.map_err(|error| unreachable(url, error))?;
        check_status(url, version, &response)?;
        let wanted = response.content_length();
        if wanted.is_some_and(|wanted| wanted > max) {
            return Err(too_large());
        }
        let mut got = 0_u64;
        loop {
            let piece = match response.chunk().await {
                Ok(Some(piece)) => piece,
                Ok(None) => return Ok(()),
                Err(error) if error.is_timeout() => return Err(unreachable(url, error)),
                Err(_) => {
                    return Err(ReleaseError::Truncated {
                        url: url.to_owned(),
                        got,
                        wanted,
                    });
                }
            };
            got = got.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            if got > max {
                return Err(too_large());
            }
            take(&piece)?;
        }
    }
}

/// HTTPS is never left, and nobody is sent around in circles.
fn send_on(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let leaves_https = attempt
        .previous()
        .first()
        .is_some_and(|first| first.scheme() == "https")
        && attempt.url().scheme() != "https";
    if leaves_https {
        attempt.error("it is sent on from https to http")
    } else if attempt.previous().len() > REDIRECTS_MAX {
        attempt.error("it is sent on too often")
    } else {
        attempt.follow()
    }
}

fn check_status(url: &str, version: &str, response: &Response) -> Result<(), ReleaseError> {
    match response.status() {
        status if status.is_success() => Ok(()),
        StatusCode::NOT_FOUND | StatusCode::GONE => Err(ReleaseError::NotFound {
            version: version.to_owned(),
            url: url.to_owned(),
        }),
        status => Err(ReleaseError::Server {
            url: url.to_owned(),
            code: status.as_u16(),
        }),
    }
}

/// The innermost cause says most; the URL is shown once, by us.
fn unreachable(url: &str, error: reqwest::Error) -> ReleaseError {
    let why = if error.is_timeout() {
        "it took too long".to_owned()
    } else {
        let error = error.without_url();
        let mut cause: &dyn std::error::Error = &error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        cause.to_string()
    };
    ReleaseError::Unreachable {
        url: url.to_owned(),
        why,
    }
}

fn base_error(error: &TlsError) -> ReleaseError {
    ReleaseError::Base {
        why: error.to_string(),
    }
}
