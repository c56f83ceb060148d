//! Commit statuses: the verdict beside the commit on GitHub, Gitea and Forgejo. One
//! way of talking, two dialects.
//!
//! Statuses are only ever added; the newest of a context counts. Nothing here is
//! idempotent, so the outbox asks for the newest before it repeats.

mod answer;
mod dialect;
mod http;
#[cfg(test)]
mod mock;
mod shown;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::{Method, Url};
use secrecy::SecretString;
use serde_json::json;
use trueup_model::id::CommitId;
use trueup_model::port::{Forge, ForgeError};
use trueup_model::verdict::Verdict;

pub use self::dialect::Dialect;

use self::answer::{Answer, Place};
use self::http::Http;

/// Contexts of one commit are read in pages; more than this many pages are not ours.
const PAGES_MAX: u32 = 20;
/// A page of 100 statuses with everything about their creators is about 200 KiB.
const LIST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Of an answer that is only looked at for its words.
const WORDS_BYTES_MAX: usize = 64 * 1024;

/// Gives the token at every request: a person may put a new one into its file while
/// we run. The error is shown to people.
pub type TokenSource = Arc<dyn Fn() -> Result<SecretString, String> + Send + Sync>;

/// A forge and how it is reached.
#[derive(Clone)]
pub struct StatusSettings {
    /// Which API.
    pub dialect: Dialect,
    /// Gitea: of its start page. GitHub: of the API.
    pub url: String,
    /// `owner/name`.
    pub repo: String,
    /// The token.
    pub token: TokenSource,
    /// Authorities in PEM that are trusted in the place of the system's.
    pub authorities: Option<Vec<u8>>,
    /// Where a status leads to; `{commit}` stands for the commit.
    pub link: Option<String>,
}

impl fmt::Debug for StatusSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.dialect.name(), self.url, self.repo)
    }
}

/// What of the settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("forge.{}: {why}", .dialect.name())]
pub struct StatusForgeError {
    /// Whose settings.
    pub dialect: Dialect,
    /// What is wrong with them.
    pub why: String,
}

/// Commit statuses of one repository.
pub struct StatusForge {
    dialect: Dialect,
    /// Ends in `/`.
    repo_url: Url,
    place: Place,
    token: TokenSource,
    link: Option<String>,
    http: Http,
}

impl fmt::Debug for StatusForge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl StatusForge {
    /// Checks the settings; asks nobody.
    pub fn new(settings: &StatusSettings) -> Result<Self, StatusForgeError> {
        let dialect = settings.dialect;
        let wrong = |why: String| StatusForgeError { dialect, why };
        let base = http::checked_base(&settings.url).map_err(&wrong)?;
        let (owner, name) = dialect::owner_and_name(&settings.repo).map_err(&wrong)?;
        if let Some(link) = &settings.link {
            shown::check_link(link).map_err(&wrong)?;
        }
        let repo_url = dialect
            .repo_url(&base, owner, name)
            .map_err(|error| wrong(error.to_string()))?;
        let http = Http::new(&base, settings.authorities.as_deref()).map_err(&wrong)?;
        Ok(Self {
            dialect,
            place: Place {
                dialect,
                host: http::host_of(&base),
                repo: settings.repo.clone(),
            },
            repo_url,
            token: Arc::clone(&settings.token),
            link: settings.link.clone(),
            http,
        })
    }

    /// What deliveries to it are called: `gitea git.example.org/ops/fleet`.
    pub fn name(&self) -> String {
        self.place.to_string()
    }

    fn at(&self, path: &str) -> Result<Url, ForgeError> {
        self.repo_url
            .join(path)
            .map_err(|error| ForgeError::Refused(error.to_string()))
    }

    async fn ask(
        &self,
        method: Method,
        url: Url,
        body: Option<Vec<u8>>,
        bytes_max: usize,
    ) -> Result<Answer, ForgeError> {
        let token = (self.token)().map_err(ForgeError::Denied)?;
        let headers = self.dialect.headers(&token)?;
        self.http
            .send(method, url, headers, body, bytes_max)
            .await
            .map(|answer| answer.without(&token))
            .map_err(|why| ForgeError::Later(format!("{}: {why}", self.place)))
    }

    /// Whether something is there at all: tells a repository that is unknown from a
    /// commit that is.
    async fn exists(&self, path: &str) -> Result<bool, ForgeError> {
        // Joined with nothing, the URL ends in a slash that some servers do not know.
        let url = if path.is_empty() {
            let text = self.repo_url.as_str().trim_end_matches('/');
            Url::parse(text).map_err(|error| ForgeError::Refused(error.to_string()))?
        } else {
            self.at(path)?
        };
        let answer = self.ask(Method::GET, url, None, LIST_BYTES_MAX).await?;
        match answer.code {
            200 => Ok(true),
            404 => Ok(false),
            _ => Err(self.place.failure(&answer)),
        }
    }

    /// What an answer that is no success means.
    async fn failure(&self, commit: &CommitId, answer: &Answer) -> ForgeError {
        let unknown = || ForgeError::UnknownCommit(format!("{} has no {commit}", self.place));
        let error = self.place.failure(answer);
        // Gitea 1.26 answers 500 for a commit that it does not have.
        let commit_path = format!("git/commits/{commit}");
        let asked = match (self.dialect, answer.code) {
            (Dialect::Gitea, 500) => self.exists(&commit_path).await.map(|known| !known),
            (Dialect::Gitea, 404) => self.exists("").await,
            // GitHub answers 422 for it, and 404 where the token may not write.
            _ => return error,
        };
        match asked {
            Ok(true) => unknown(),
            Ok(false) => error,
            Err(other) => other,
        }
    }
}

#[async_trait]
impl Forge for StatusForge {
    async fn newest(
        &self,
        commit: &CommitId,
        context: &str,
    ) -> Result<Option<Verdict>, ForgeError> {
        let context = shown::context(context);
        let mut read = 0;
        for page in 1..=PAGES_MAX {
            let mut url = self.at(&format!("commits/{commit}/status"))?;
            let size = self.dialect.page();
            url.set_query(Some(&format!("{}={}&page={page}", size.0, size.1)));
            let answer = self.ask(Method::GET, url, None, LIST_BYTES_MAX).await?;
            if answer.code != 200 {
                return Err(self.failure(commit, &answer).await);
            }
            let listed = answer
                .statuses()
                .map_err(|why| ForgeError::Later(format!("{}: {why}", self.place)))?;
            if let Some(found) = listed.newest(&context) {
                return Ok(found.verdict(commit));
            }
            read += listed.statuses.len();
            let all = answer.total().unwrap_or(listed.total_count);
            if listed.statuses.is_empty() || read >= all {
                return Ok(None);
            }
        }
        Ok(None)
    }

    async fn publish(&self, verdict: &Verdict) -> Result<(), ForgeError> {
        let shown = self.as_shown(verdict);
        let mut body = json!({
            "state": shown.state.as_str(),
            "context": shown.context,
            "description": shown.description,
        });
        if let (Some(link), Some(body)) = (&self.link, body.as_object_mut()) {
            let link = link.replace("{commit}", verdict.commit.as_str());
            body.insert("target_url".to_owned(), link.into());
        }
        let url = self.at(&format!("statuses/{}", verdict.commit))?;
        let body = body.to_string().into_bytes();
        let answer = self
            .ask(Method::POST, url, Some(body), WORDS_BYTES_MAX)
            .await?;
        // Exactly what both document: a 200 may be the page of something else.
        if answer.code == 201 {
            return Ok(());
        }
        Err(self.failure(&verdict.commit, &answer).await)
    }

    fn as_shown(&self, verdict: &Verdict) -> Verdict {
        shown::verdict(verdict)
    }
}

#[cfg(test)]
mod tests;
