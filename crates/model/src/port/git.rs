//! GitRepo: the tracked branch of the config repo, through trueup's own mirror.

use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::id::{CommitId, IdError};

/// Name of a branch, without `refs/heads/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BranchName(String);

impl BranchName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for BranchName {
    /// `main`.
    fn default() -> Self {
        Self("main".to_owned())
    }
}

/// The rules of `git check-ref-format`, and no leading dash.
fn check_branch(text: &str) -> Result<(), &'static str> {
    if text.is_empty() || text.len() > 200 {
        return Err("it is empty or longer than 200 bytes");
    }
    let bad = |c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c);
    if text.chars().any(bad) || text.contains("..") || text.contains("@{") || text == "@" {
        return Err("git allows no blank and none of ~^:?*[\\ .. @{ in it");
    }
    let bad_part = |part: &str| {
        part.is_empty() || part.starts_with('.') || part.ends_with('.') || part.ends_with(".lock")
    };
    if text.starts_with('-') || text.split('/').any(bad_part) {
        return Err("write it as `git branch` shows it");
    }
    Ok(())
}

impl FromStr for BranchName {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        check_branch(text).map_err(|why| IdError {
            text: text.chars().take(80).collect(),
            what: "branch name",
            why,
        })?;
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for BranchName {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<BranchName> for String {
    fn from(name: BranchName) -> Self {
        name.0
    }
}

impl fmt::Display for BranchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How the tip of a branch moved since the last accepted one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Moved {
    /// There was none before.
    New,
    /// It did not move.
    Same,
    /// It descends from the one before.
    Forward,
    /// It does not: history was rewritten or set back. The one before stays the
    /// accepted tip, and stays reachable, until somebody accepts this one.
    Rewound {
        /// The one before.
        from: CommitId,
    },
}

/// The tip of a branch as it was just fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FetchedTip {
    /// The commit.
    pub commit: CommitId,
    /// Against the accepted tip.
    pub moved: Moved,
}

/// A commit in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LogEntry {
    /// The commit.
    pub commit: CommitId,
    /// When it was committed, Unix seconds.
    pub at_s: i64,
    /// Name of its author.
    pub author: String,
    /// First line of its message.
    pub subject: String,
}

/// Why git did not do it; every message says what to do. URLs are shown without
/// user and password.
///
/// None of these says that there is nothing to converge to: a branch that is gone
/// or empty leaves the accepted tip as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GitError {
    /// The program cannot be run.
    #[error("git cannot be run: {why}; install it (Debian: `apt-get install git`)")]
    NoGit {
        /// What the system said.
        why: String,
    },
    /// The program is older than what trueup was tried with.
    #[error("git {found} is too old; install {needed} or newer")]
    OldGit {
        /// Its version.
        found: String,
        /// What is needed.
        needed: String,
    },
    /// The URL holds a secret, or is none.
    #[error("the URL of the repository cannot be used: {why}")]
    Url {
        /// What is wrong with it.
        why: &'static str,
    },
    /// Nothing in the mirror has this name.
    #[error("there is no commit {rev} in the mirror; push it to a branch, then fetch")]
    UnknownRevision {
        /// The revision.
        rev: String,
    },
    /// There is nothing.
    #[error("there is no repository at {url}; look at the path or URL, and at who may read it")]
    NotFound {
        /// The repository.
        url: String,
    },
    /// There is something else.
    #[error("{url} is not a git repository; name the folder that holds .git, or a bare one")]
    NotARepository {
        /// The repository.
        url: String,
    },
    /// The server does not know us.
    #[error("{url} refuses the credential: {why}; look at the key or the credential helper")]
    Authentication {
        /// The repository.
        url: String,
        /// What was said.
        why: String,
    },
    /// The SSH server is not the known one.
    #[error("the host key of {url} is not known: {why}; put the right one into known_hosts")]
    HostKey {
        /// The repository.
        url: String,
        /// What was said.
        why: String,
    },
    /// The HTTPS server shows a certificate that is not trusted.
    #[error("the certificate of {url} is not trusted: {why}; install its authority")]
    Certificate {
        /// The repository.
        url: String,
        /// What was said.
        why: String,
    },
    /// git does not read repositories of somebody else.
    #[error(
        "{url} belongs to another user, and git does not read it; \
         run `git config --system --add safe.directory {directory}`"
    )]
    Ownership {
        /// The repository.
        url: String,
        /// Its git directory.
        directory: String,
    },
    /// No answer.
    #[error("{url} does not answer: {why}; it is tried again")]
    Unreachable {
        /// The repository.
        url: String,
        /// What was said.
        why: String,
    },
    /// The branch does not exist (any more).
    #[error("{url} has no branch {branch} (it has: {others}); nothing is changed until it is back")]
    BranchGone {
        /// The repository.
        url: String,
        /// The branch.
        branch: String,
        /// Some branches that exist.
        others: String,
    },
    /// There is no branch at all.
    #[error("{url} has no branches; push one: nothing is changed until there is a commit")]
    Empty {
        /// The repository.
        url: String,
    },
    /// A repository of a form that trueup does not read.
    #[error("{url} cannot be read: {why}")]
    Unsupported {
        /// The repository.
        url: String,
        /// What it is, and what to do.
        why: &'static str,
    },
    /// The other side broke off, or is damaged.
    #[error("{url} did not send the commits: {why}; run `git fsck` there if it goes on")]
    Protocol {
        /// The repository.
        url: String,
        /// What was said.
        why: String,
    },
    /// No space left for the mirror.
    #[error("no space left for the mirror {path}; free space on its file system")]
    Full {
        /// The mirror.
        path: String,
    },
    /// The mirror is damaged or not ours.
    #[error("the mirror {path} cannot be used: {why}; move it away, it is made anew")]
    Mirror {
        /// The mirror.
        path: String,
        /// What was said.
        why: String,
    },
    /// Another git command holds the mirror, or left a lock behind.
    #[error("the mirror {path} is locked: {why}; it is tried again")]
    Locked {
        /// The mirror.
        path: String,
        /// What was said.
        why: String,
    },
    /// It took too long.
    #[error("git {what} took longer than {limit_s} s; it is tried again")]
    Timeout {
        /// The command.
        what: String,
        /// The deadline in seconds.
        limit_s: u64,
    },
    /// Anything else.
    #[error("git {what} failed: {why}")]
    Failed {
        /// The command.
        what: String,
        /// What was said.
        why: String,
    },
}

impl GitError {
    /// It may work later without anybody doing anything here.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Protocol { .. }
                | Self::Locked { .. }
                | Self::Timeout { .. }
        )
    }
}

/// The tracked branch of the config repo. Implementations own a mirror; they never
/// write to the repository itself.
#[async_trait]
pub trait GitRepo: Send + Sync + fmt::Debug {
    /// Ask the repository for the tip of the branch. A tip that is new or descends
    /// from the accepted one is accepted at once; a rewound one is not.
    async fn fetch(&self) -> Result<FetchedTip, GitError>;

    /// The accepted tip; no network.
    async fn head(&self) -> Result<Option<CommitId>, GitError>;

    /// Accept a fetched commit as the tip, whatever was accepted before.
    async fn accept(&self, commit: &CommitId) -> Result<(), GitError>;

    /// Commits reachable from `to` and not from `from`, newest first.
    async fn log(
        &self,
        from: Option<&CommitId>,
        to: &CommitId,
        limit: u32,
    ) -> Result<Vec<LogEntry>, GitError>;

    /// Whether `old` is `new` or an ancestor of it.
    async fn is_ancestor(&self, old: &CommitId, new: &CommitId) -> Result<bool, GitError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branch_names_are_those_of_git() {
        for good in ["main", "release/1.2", "a-b_c", "ünïcode", "x@y"] {
            assert!(good.parse::<BranchName>().is_ok(), "{good}");
        }
        for bad in [
            "", "-f", "a b", "a:b", "*", "a..b", "a/", "/a", "a//b", ".a", "a/.b", "a.lock", "a.",
            "a@{1}", "@", "a\nb", "a\\b", "+a^",
        ] {
            assert!(bad.parse::<BranchName>().is_err(), "{bad}");
        }
    }
}
