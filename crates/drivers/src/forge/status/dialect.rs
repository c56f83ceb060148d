//! What differs between the forges: paths, headers, pages, and the right that a
//! token needs.

use reqwest::Url;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use trueup_model::port::ForgeError;

/// Version of GitHub's REST API (docs.github.com, "API Versions").
const GITHUB_VERSION: &str = "2022-11-28";

/// Which API a forge speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Gitea and Forgejo.
    Gitea,
    /// GitHub and GitHub Enterprise.
    GitHub,
}

impl Dialect {
    /// As in the host configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gitea => "gitea",
            Self::GitHub => "github",
        }
    }

    /// The URL of a repository in the API, with a slash at its end.
    pub(super) fn repo_url(
        self,
        base: &Url,
        owner: &str,
        name: &str,
    ) -> Result<Url, <Url as std::str::FromStr>::Err> {
        let api = match self {
            Self::Gitea => "api/v1/",
            Self::GitHub => "",
        };
        base.join(&format!("{api}repos/{owner}/{name}/"))
    }

    pub(super) fn headers(self, token: &SecretString) -> Result<HeaderMap, ForgeError> {
        // Gitea reads both words; `token` is the one that its old versions know.
        let (word, accept) = match self {
            Self::Gitea => ("token", "application/json"),
            Self::GitHub => ("Bearer", "application/vnd.github+json"),
        };
        let mut headers = HeaderMap::new();
        let line = format!("{word} {}", token.expose_secret());
        let mut value = HeaderValue::from_str(&line).map_err(|_| {
            ForgeError::Denied("the token holds characters that no token has".to_owned())
        })?;
        // Never shown by Debug, never kept in a header table.
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        if self == Self::GitHub {
            let name = HeaderName::from_static("x-github-api-version");
            headers.insert(name, HeaderValue::from_static(GITHUB_VERSION));
        }
        Ok(headers)
    }

    /// The parameter that sets the size of a page, and the largest one.
    pub(super) fn page(self) -> (&'static str, u32) {
        match self {
            Self::Gitea => ("limit", 50),
            Self::GitHub => ("per_page", 100),
        }
    }

    /// What a token must be allowed to do.
    pub(super) fn scope(self) -> &'static str {
        match self {
            Self::Gitea => "the scope write:repository, of a user who may write to the repository",
            Self::GitHub => {
                "\"Commit statuses: write\" (fine-grained token) or the scope repo:status (classic)"
            }
        }
    }
}

/// `owner/name`, of the characters that both forges allow.
pub(super) fn owner_and_name(repo: &str) -> Result<(&str, &str), String> {
    let plain = |part: &str| {
        let ok = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty() && part.len() <= 100 && part.chars().all(ok) && part != "." && part != ".."
    };
    match repo.split_once('/') {
        Some((owner, name)) if plain(owner) && plain(name) => Ok((owner, name)),
        _ => Err(format!("repo: {repo:?} is not OWNER/NAME")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_have_an_owner_and_a_name() {
        assert_eq!(owner_and_name("ops/fleet.git"), Ok(("ops", "fleet.git")));
        for bad in ["", "ops", "ops/", "/x", "a/b/c", "a/..", "a/b?c", "a/b c"] {
            assert!(owner_and_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn headers_never_show_the_token() {
        for dialect in [Dialect::Gitea, Dialect::GitHub] {
            let headers = dialect.headers(&"canary".to_owned().into()).unwrap();
            assert!(!format!("{headers:?}").contains("canary"));
        }
        let error = Dialect::Gitea.headers(&"two\nlines".to_owned().into());
        let text = error.unwrap_err().to_string();
        assert!(!text.contains("lines"), "{text}");
    }
}
