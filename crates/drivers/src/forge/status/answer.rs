//! An answer of a forge, and what it means for a verdict.

use std::fmt;

use jiff::Timestamp;
use reqwest::header::{DATE, HeaderMap, LOCATION, RETRY_AFTER};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use trueup_model::id::CommitId;
use trueup_model::port::ForgeError;
use trueup_model::verdict::{Verdict, VerdictState, cut};

use super::dialect::Dialect;

/// Of what a forge said, in a message.
const SAID_CHARS_MAX: usize = 200;
/// Where a forge asks to wait and does not say how long.
const WAIT_S: u64 = 60;
/// GitHub's limits are of an hour; nobody is believed who says more.
const WAIT_S_MAX: u64 = 3600;

/// Where statuses go, for messages: `gitea git.example.org/ops/fleet`.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) dialect: Dialect,
    pub(super) host: String,
    pub(super) repo: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.dialect.name(), self.host, self.repo)
    }
}

/// An answer, read whole or to its cap.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) code: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// A page of the newest status of each context. Both forges use this form; Gitea
/// calls the state `status`.
#[derive(Debug, Deserialize)]
pub(super) struct Listed {
    /// Gitea 1.26 writes `null` for none.
    #[serde(default, deserialize_with = "null_is_none")]
    pub(super) statuses: Vec<Status>,
    #[serde(default)]
    pub(super) total_count: usize,
}

fn null_is_none<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<Status>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[derive(Debug, Deserialize)]
pub(super) struct Status {
    #[serde(default)]
    id: u64,
    #[serde(default, alias = "status")]
    state: String,
    #[serde(default)]
    context: String,
    description: Option<String>,
}

impl Listed {
    /// GitHub takes contexts that differ in case for the same.
    pub(super) fn newest(&self, context: &str) -> Option<&Status> {
        self.statuses
            .iter()
            .filter(|status| status.context.eq_ignore_ascii_case(context))
            .max_by_key(|status| status.id)
    }
}

impl Status {
    /// `None` for a state that is none of ours: it was written by somebody else.
    pub(super) fn verdict(&self, commit: &CommitId) -> Option<Verdict> {
        let states = [
            VerdictState::Pending,
            VerdictState::Success,
            VerdictState::Failure,
            VerdictState::Error,
        ];
        Some(Verdict {
            commit: commit.clone(),
            context: self.context.clone(),
            state: states
                .into_iter()
                .find(|state| state.as_str() == self.state)?,
            description: self.description.clone().unwrap_or_default(),
        })
    }
}

impl Answer {
    /// Without the token, should a forge or a proxy have repeated it.
    pub(super) fn without(mut self, token: &SecretString) -> Self {
        let token = token.expose_secret();
        let text = String::from_utf8_lossy(&self.body);
        if !token.is_empty() && text.contains(token) {
            self.body = text.replace(token, "***").into_bytes();
        }
        self
    }

    pub(super) fn statuses(&self) -> Result<Listed, String> {
        serde_json::from_slice(&self.body)
            .map_err(|error| format!("its list of statuses is not understood: {error}"))
    }

    /// Gitea's count over all pages; its body has the page's.
    pub(super) fn total(&self) -> Option<usize> {
        self.number("x-total-count")
            .and_then(|total| usize::try_from(total).ok())
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.header(name)?.trim().parse().ok()
    }

    /// What the forge said, in one line without control characters.
    fn said(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let json: Option<serde_json::Value> = serde_json::from_str(&text).ok();
        let mut words = match json.as_ref().and_then(|json| json.get("message")?.as_str()) {
            Some(message) => message.to_owned(),
            None if json.is_some() || text.trim_start().starts_with('<') => String::new(),
            None => text.trim().to_owned(),
        };
        let details = json
            .as_ref()
            .and_then(|json| json.get("errors")?.as_array());
        for detail in details.into_iter().flatten() {
            let detail = detail.get("message").unwrap_or(detail);
            if let Some(detail) = detail.as_str() {
                words = format!("{words}: {detail}");
            }
        }
        let plain: String = words
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let plain = cut(plain.trim(), SAID_CHARS_MAX);
        if plain.is_empty() {
            format!("HTTP {}", self.code)
        } else {
            format!("HTTP {}: {plain}", self.code)
        }
    }

    /// The forge's own time: our clock may be off, and its reset times are by its.
    fn now_s(&self) -> i64 {
        self.header(DATE.as_str())
            .and_then(http_date)
            .unwrap_or_else(Timestamp::now)
            .as_second()
    }

    /// Seconds to wait, where the answer speaks of a limit.
    fn wait_s(&self) -> Option<u64> {
        let after = |at: i64| u64::try_from(at.saturating_sub(self.now_s())).unwrap_or(0);
        let retry = self.header(RETRY_AFTER.as_str()).map(|text| {
            let seconds = text.trim().parse::<u64>().ok();
            let date = || http_date(text).map(|at| after(at.as_second()));
            seconds.or_else(date).unwrap_or(WAIT_S)
        });
        let used_up = self.number("x-ratelimit-remaining") == Some(0);
        let reset = || {
            let at = self.number("x-ratelimit-reset")?;
            // A second more: the limit ends within it.
            Some(after(i64::try_from(at).ok()?).saturating_add(1))
        };
        let wait = match retry {
            Some(wait) => Some(wait),
            None if used_up => Some(reset().unwrap_or(WAIT_S)),
            None if self.code == 429 => Some(WAIT_S),
            // GitHub's secondary limits may come without any header.
            None if self.code == 403 && self.said().contains("rate limit") => Some(WAIT_S),
            None => None,
        };
        wait.map(|wait| wait.clamp(1, WAIT_S_MAX))
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7).
fn http_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(text.trim())
        .ok()
        .map(|zoned| zoned.timestamp())
}

impl Place {
    /// What an answer means that is no success.
    pub(super) fn failure(&self, answer: &Answer) -> ForgeError {
        let said = answer.said();
        let limited = matches!(answer.code, 403 | 429 | 503);
        if let Some(wait_s) = answer.wait_s().filter(|_| limited) {
            let why = format!("{self}: {said}");
            return ForgeError::Busy { why, wait_s };
        }
        let scope = self.dialect.scope();
        match answer.code {
            300..=399 => ForgeError::Denied(self.moved(answer)),
            401 => ForgeError::Denied(format!(
                "{self} does not accept the token ({said}); put one into tokenFile that has {scope}"
            )),
            403 => ForgeError::Denied(format!(
                "{self}: the token may not do this ({said}); it needs {scope}"
            )),
            404 => ForgeError::Denied(format!(
                "{self}: there is no such repository, or the token may not see it ({said}); \
                 look at repo, and at the token: it needs {scope}"
            )),
            422 if said.contains("No commit found") => {
                ForgeError::UnknownCommit(format!("{self}: {said}"))
            }
            // A 200 is the page of somebody in between: both forges answer 201.
            200..=299 | 408 | 409 | 423 | 425 | 429 | 500..=599 => {
                ForgeError::Later(format!("{self}: {said}"))
            }
            _ => ForgeError::Refused(format!("{self}: {said}")),
        }
    }

    fn moved(&self, answer: &Answer) -> String {
        let to = answer
            .header(LOCATION.as_str())
            .and_then(|location| reqwest::Url::parse(location).ok())
            .map_or_else(
                || "elsewhere".to_owned(),
                |url| url.origin().ascii_serialization(),
            );
        format!(
            "{self} sends requests on to {to} (HTTP {}), where the token is not shown; \
             set its URL in the host configuration to where it lives",
            answer.code
        )
    }
}

#[cfg(test)]
mod tests;
