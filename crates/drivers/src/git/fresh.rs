//! A repository that is made: `trueup init`. The only place that writes to a work tree
//! of a person, and only to one that it has just made.

use std::time::Duration;

use camino::Utf8Path;

use super::GitError;
use crate::git_process::{GitEnd, GitProcess};

/// Anything here is local and small.
const LIMIT: Duration = Duration::from_secs(30);
/// A remote that does not answer in this time is told as such.
const REMOTE_LIMIT: Duration = Duration::from_secs(15);
/// Refs of a repository with thousands of branches.
const REFS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Who commits, where git knows nobody.
#[derive(Debug, Clone)]
pub struct Author {
    /// Name.
    pub name: String,
    /// Address.
    pub email: String,
}

/// Makes a repository of a folder that has none, with everything in it as the first
/// commit. Where git knows no author, `author` is set for this repository; true then.
///
/// # Errors
/// git cannot be run, or refuses.
pub async fn make(
    folder: &Utf8Path,
    branch: &str,
    message: &str,
    author: &Author,
) -> Result<bool, GitError> {
    let dir = folder.join(".git");
    let tree = format!("--work-tree={folder}");
    let made = run(None, &["init", "-q", "-b", branch, folder.as_str()]).await?;
    succeeded("init", &made)?;
    let known = run(Some(&dir), &["config", "--get", "user.email"]).await?;
    let named = run(Some(&dir), &["config", "--get", "user.name"]).await?;
    let nameless = !known.is_success() || !named.is_success();
    if nameless {
        for (key, value) in [("user.name", &author.name), ("user.email", &author.email)] {
            succeeded("config", &run(Some(&dir), &["config", key, value]).await?)?;
        }
    }
    // `-C`, since paths are relative to where git stands, not to the work tree.
    let add = ["-C", folder.as_str(), &tree, "add", "--all", "."];
    succeeded("add", &run(Some(&dir), &add).await?)?;
    let commit = [
        "-C",
        folder.as_str(),
        &tree,
        "commit",
        "-q",
        "--no-gpg-sign",
        "-m",
        message,
    ];
    succeeded("commit", &run(Some(&dir), &commit).await?)?;
    Ok(nameless)
}

/// Whether a URL can be read, and has the branch.
///
/// # Errors
/// It cannot be read; in git's own words.
pub async fn reachable(url: &str, branch: &str) -> Result<bool, GitError> {
    let head = format!("refs/heads/{branch}");
    let end = GitProcess {
        dir: None,
        args: &["ls-remote", "--", url, &head],
        stdin: &[],
        limit: REMOTE_LIMIT,
        stdout_max: REFS_BYTES_MAX,
    }
    .run()
    .await?;
    if end.is_success() {
        return Ok(!end.stdout.is_empty());
    }
    Err(GitError::Failed {
        what: "ls-remote".to_owned(),
        why: end.words(),
    })
}

async fn run(dir: Option<&Utf8Path>, args: &[&str]) -> Result<GitEnd, GitError> {
    GitProcess {
        dir,
        args,
        stdin: &[],
        limit: LIMIT,
        stdout_max: 64 * 1024,
    }
    .run()
    .await
}

fn succeeded(what: &str, end: &GitEnd) -> Result<(), GitError> {
    if end.is_success() {
        return Ok(());
    }
    Err(GitError::Failed {
        what: what.to_owned(),
        why: end.words(),
    })
}
