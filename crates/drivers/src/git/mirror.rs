//! The mirror: a bare repository of trueup's own in the state directory.
//!
//! Every branch has two refs here: what was fetched last, and the accepted tip,
//! which moves by itself only forward. Both keep their commits reachable. Losing
//! the mirror loses nothing but notes that nobody fetched.
//!
//! Everything goes through the `git` program: it honours ssh_config, agents,
//! proxies and credential helpers, and reads every repository format.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use trueup_model::id::CommitId;
use trueup_model::port::git::LogEntry;
use trueup_model::port::{BranchName, FetchedTip, GitError, GitRepo, Moved};

use super::leftovers::clear_leftovers;
use super::{failure, url};
use crate::git_process::{GitEnd, GitProcess};

/// The oldest git that has everything used here (`rev-list --no-commit-header`,
/// 2.33); tried with 2.39, Debian 12's.
const OLDEST: (u32, u32) = (2, 34);

/// A fetch that leaves no trace but objects and one ref.
pub(super) const FETCH: &[&str] = &[
    "fetch",
    "--quiet",
    "--no-tags",
    "--no-write-fetch-head",
    "--no-auto-maintenance",
    "--no-recurse-submodules",
    "--no-progress",
];

/// Tens of thousands of branches.
const HEADS_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Names in an error.
const OTHERS_MAX: usize = 5;

/// Clearing away what is not reachable may take long on a slow disk.
const TIDY_LIMIT: Duration = Duration::from_secs(200);

/// `log` lists at most this many commits.
const LOG_MAX: u32 = 10_000;
const LOG_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The mirror.
#[derive(Debug)]
pub struct Mirror {
    dir: Utf8PathBuf,
    /// git was asked for its version.
    asked: tokio::sync::OnceCell<()>,
    /// One writer at a time within this process.
    writing: tokio::sync::Mutex<()>,
}

/// Which ref of ours.
#[derive(Debug, Clone, Copy)]
enum Kept {
    Fetched,
    Accepted,
}

/// A flat name, so that a branch `a` never stands in the way of a branch `a/b`.
fn ref_name(kept: Kept, branch: &BranchName) -> String {
    let kind = match kept {
        Kept::Fetched => "fetched",
        Kept::Accepted => "accepted",
    };
    let flat = branch.as_str().replace('%', "%25").replace('/', "%2F");
    format!("refs/trueup/{kind}/{flat}")
}

impl Mirror {
    /// The mirror in a folder of the state directory. It is made, and git's version
    /// checked, at the first use.
    pub fn at(dir: &Utf8Path) -> Self {
        Self {
            dir: dir.to_owned(),
            asked: tokio::sync::OnceCell::new(),
            writing: tokio::sync::Mutex::new(()),
        }
    }

    /// Makes the mirror where it is missing; checks git's version.
    pub async fn open(dir: &Utf8Path) -> Result<Self, GitError> {
        let mirror = Self::at(dir);
        mirror.ready().await?;
        Ok(mirror)
    }

    async fn ready(&self) -> Result<(), GitError> {
        let first = !self.asked.initialized();
        self.asked.get_or_try_init(check_version).await?;
        // Somebody may remove the state directory while we run.
        if first || !self.dir.join("HEAD").exists() {
            self.make().await?;
        }
        Ok(())
    }

    async fn make(&self) -> Result<(), GitError> {
        clear_leftovers(&self.dir);
        // Without templates: no sample hooks, no description. Harmless where the
        // mirror exists, and it completes one that was made half.
        let args = [
            "init",
            "--quiet",
            "--bare",
            "--template=",
            "--object-format=sha1",
            "--initial-branch=main",
            self.dir.as_str(),
        ];
        let mut init = GitProcess::short(&self.dir, &args);
        init.dir = None;
        let end = init.run().await?;
        self.success("init", end).map(drop)
    }

    /// Runs a command on the mirror.
    pub(super) async fn git(&self, process: GitProcess<'_>) -> Result<GitEnd, GitError> {
        self.ready().await?;
        process.run().await
    }

    pub(super) fn short<'a>(&'a self, args: &'a [&'a str]) -> GitProcess<'a> {
        GitProcess::short(&self.dir, args)
    }

    /// One writer at a time.
    pub(super) async fn write(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.writing.lock().await
    }

    /// Where it lies.
    pub fn dir(&self) -> &Utf8Path {
        &self.dir
    }

    /// Fetches the tip of a branch, and accepts it unless it is rewound.
    pub async fn fetch(
        &self,
        url: &str,
        branch: &BranchName,
        limit: Duration,
    ) -> Result<FetchedTip, GitError> {
        url::check(url)?;
        let _one = self.writing.lock().await;
        let fetched = ref_name(Kept::Fetched, branch);
        let refspec = format!("+refs/heads/{branch}:{fetched}");
        let mut args = FETCH.to_vec();
        args.extend(["--", url, &refspec]);
        let process = GitProcess {
            limit,
            ..self.short(&args)
        };
        let end = self.git(process).await?;
        // A shallow clone is refused with a warning and exit code 0.
        if !end.is_success() || end.stderr.contains("shallow roots are not allowed") {
            if end.stderr.contains("couldn't find remote ref") {
                return Err(self.gone(url, branch, limit).await?);
            }
            let error = failure::of_remote("fetch", &self.dir, url, &end);
            if matches!(error, GitError::Locked { .. }) {
                clear_leftovers(&self.dir);
            }
            return Err(error);
        }
        let commit = self.commit_at(&fetched).await?;
        let commit = commit.ok_or_else(|| GitError::Mirror {
            path: self.dir.to_string(),
            why: format!("{fetched} is not there after a fetch"),
        })?;
        let moved = self.compare(branch, &commit).await?;
        if matches!(moved, Moved::New | Moved::Forward) {
            self.set_accepted(branch, &commit).await?;
        }
        Ok(FetchedTip { commit, moved })
    }

    /// The branch is not there: is any?
    async fn gone(
        &self,
        url: &str,
        branch: &BranchName,
        limit: Duration,
    ) -> Result<GitError, GitError> {
        let args = ["ls-remote", "--quiet", "--heads", "--", url];
        let process = GitProcess {
            limit,
            stdout_max: HEADS_BYTES_MAX,
            ..self.short(&args)
        };
        let end = self.git(process).await?;
        if !end.is_success() {
            return Err(failure::of_remote("ls-remote", &self.dir, url, &end));
        }
        let text = end.text();
        let names: Vec<&str> = text
            .lines()
            .filter_map(|line| Some(line.split_once("refs/heads/")?.1))
            .take(OTHERS_MAX)
            .collect();
        let url = url::shown(url);
        Ok(if names.is_empty() {
            GitError::Empty { url }
        } else {
            GitError::BranchGone {
                url,
                branch: branch.to_string(),
                others: names.join(", "),
            }
        })
    }

    async fn compare(&self, branch: &BranchName, commit: &CommitId) -> Result<Moved, GitError> {
        let Some(from) = self.head(branch).await? else {
            return Ok(Moved::New);
        };
        if from == *commit {
            Ok(Moved::Same)
        } else if self.is_ancestor(&from, commit).await? {
            Ok(Moved::Forward)
        } else {
            Ok(Moved::Rewound { from })
        }
    }

    /// The accepted tip of a branch.
    pub async fn head(&self, branch: &BranchName) -> Result<Option<CommitId>, GitError> {
        self.commit_at(&ref_name(Kept::Accepted, branch)).await
    }

    /// What was fetched last, accepted or not.
    pub async fn fetched(&self, branch: &BranchName) -> Result<Option<CommitId>, GitError> {
        self.commit_at(&ref_name(Kept::Fetched, branch)).await
    }

    /// Accepts a commit as the tip of a branch, whatever was accepted before.
    pub async fn accept(&self, branch: &BranchName, commit: &CommitId) -> Result<(), GitError> {
        let _one = self.writing.lock().await;
        self.set_accepted(branch, commit).await
    }

    async fn set_accepted(&self, branch: &BranchName, commit: &CommitId) -> Result<(), GitError> {
        let name = ref_name(Kept::Accepted, branch);
        let args = ["update-ref", &name, commit.as_str()];
        let end = self.git(self.short(&args)).await?;
        self.success("update-ref", end).map(drop)
    }

    /// The commit of a revision: a commit id, or a branch that was fetched.
    pub async fn resolve(&self, rev: &str) -> Result<CommitId, GitError> {
        if let Ok(branch) = rev.parse::<BranchName>()
            && let Some(found) = self.fetched(&branch).await?
        {
            return Ok(found);
        }
        let unknown = || GitError::UnknownRevision {
            rev: rev.chars().take(80).collect(),
        };
        // Only plain names: `--end-of-options` is no help against `@{-1}` and its like.
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-/~^".contains(c);
        if rev.is_empty() || !rev.chars().all(plain) {
            return Err(unknown());
        }
        self.commit_at(rev).await?.ok_or_else(unknown)
    }

    async fn commit_at(&self, rev: &str) -> Result<Option<CommitId>, GitError> {
        let rev = format!("{rev}^{{commit}}");
        let args = ["rev-parse", "--quiet", "--verify", "--end-of-options", &rev];
        let end = self.git(self.short(&args)).await?;
        if end.code == Some(1) && end.stderr.is_empty() {
            return Ok(None);
        }
        let text = self.success("rev-parse", end)?.text();
        text.parse().map(Some).map_err(|_| GitError::Mirror {
            path: self.dir.to_string(),
            why: format!("{text:?} is not a commit id"),
        })
    }

    /// Whether `old` is `new` or an ancestor of it.
    pub async fn is_ancestor(&self, old: &CommitId, new: &CommitId) -> Result<bool, GitError> {
        let args = ["merge-base", "--is-ancestor", old.as_str(), new.as_str()];
        let end = self.git(self.short(&args)).await?;
        match end.code {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(failure::of_mirror("merge-base", &self.dir, &end)),
        }
    }

    /// Commits reachable from `to` and not from `from`, newest first.
    pub async fn log(
        &self,
        from: Option<&CommitId>,
        to: &CommitId,
        limit: u32,
    ) -> Result<Vec<LogEntry>, GitError> {
        let count = format!("--max-count={}", limit.min(LOG_MAX));
        let without = from.map(|from| format!("^{from}"));
        let mut args = vec![
            "rev-list",
            "--no-commit-header",
            "--format=%H%x00%ct%x00%an%x00%s",
            "--encoding=UTF-8",
            &count,
            to.as_str(),
        ];
        args.extend(without.as_deref());
        let process = GitProcess {
            stdout_max: LOG_BYTES_MAX,
            ..self.short(&args)
        };
        let end = self.git(process).await?;
        let text = self.success("rev-list", end)?.text();
        text.lines()
            .map(|line| {
                log_entry(line).ok_or_else(|| GitError::Failed {
                    what: "rev-list".to_owned(),
                    why: "its answer is not understood".to_owned(),
                })
            })
            .collect()
    }

    /// Packs what lies about and forgets what nothing refers to for two weeks.
    /// For quiet hours: it may take long.
    pub async fn tidy(&self) -> Result<(), GitError> {
        let _one = self.writing.lock().await;
        // The later setting wins over the one that forbids it everywhere else.
        let args = [
            "-c",
            "gc.auto=1000",
            "-c",
            "gc.autoDetach=false",
            "gc",
            "--auto",
            "--quiet",
        ];
        let process = GitProcess {
            limit: TIDY_LIMIT,
            ..self.short(&args)
        };
        let end = self.git(process).await?;
        self.success("gc", end).map(drop)
    }

    pub(super) fn success(&self, what: &str, end: GitEnd) -> Result<GitEnd, GitError> {
        if end.is_success() {
            Ok(end)
        } else {
            Err(failure::of_mirror(what, &self.dir, &end))
        }
    }
}

fn log_entry(line: &str) -> Option<LogEntry> {
    let mut parts = line.splitn(4, '\0');
    Some(LogEntry {
        commit: parts.next()?.parse().ok()?,
        at_s: parts.next()?.parse().ok()?,
        author: parts.next()?.to_owned(),
        subject: parts.next()?.to_owned(),
    })
}

async fn check_version() -> Result<(), GitError> {
    installed().await.map(drop)
}

/// The version of the git that is installed; one that is too old is an error.
pub async fn installed() -> Result<String, GitError> {
    let mut version = GitProcess::short(Utf8Path::new("/"), &["version"]);
    version.dir = None;
    let said = version.run().await?.text();
    let found = said.strip_prefix("git version ").unwrap_or(&said);
    if parse_version(found).is_some_and(|version| version >= OLDEST) {
        return Ok(found.to_owned());
    }
    Err(GitError::OldGit {
        found: found.to_owned(),
        needed: format!("{}.{}", OLDEST.0, OLDEST.1),
    })
}

/// `2.39.5`, `2.39.5 (Apple Git-154)`, `2.50.0-rc1`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// One branch of one repository in the mirror: the port's view.
#[derive(Debug)]
pub struct Tracked {
    /// The mirror.
    pub mirror: Arc<Mirror>,
    /// Where to fetch from.
    pub url: String,
    /// The branch.
    pub branch: BranchName,
    /// Deadline of a fetch.
    pub limit: Duration,
}

#[async_trait]
impl GitRepo for Tracked {
    async fn fetch(&self) -> Result<FetchedTip, GitError> {
        self.mirror.fetch(&self.url, &self.branch, self.limit).await
    }
    async fn head(&self) -> Result<Option<CommitId>, GitError> {
        self.mirror.head(&self.branch).await
    }
    async fn accept(&self, commit: &CommitId) -> Result<(), GitError> {
        self.mirror.accept(&self.branch, commit).await
    }
    async fn log(
        &self,
        from: Option<&CommitId>,
        to: &CommitId,
        limit: u32,
    ) -> Result<Vec<LogEntry>, GitError> {
        self.mirror.log(from, to, limit).await
    }
    async fn is_ancestor(&self, old: &CommitId, new: &CommitId) -> Result<bool, GitError> {
        self.mirror.is_ancestor(old, new).await
    }
}

#[cfg(test)]
mod tests;
