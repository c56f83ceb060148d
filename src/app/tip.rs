//! The tip of the tracked branch: fetched, and held where the branch is not what it
//! was. A rewound, empty or vanished branch is never read as "delete everything".

use std::time::Duration;

use trueup_drivers::git::{BranchName, FetchedTip, GitError, Moved, shown_url};
use trueup_model::id::CommitId;

use super::clock::now_s;
use super::host::Host;
use super::runtime::seconds;
use crate::cli::Failure;

/// A tip, and why it may not be carried out.
#[derive(Debug)]
pub(crate) struct Tip {
    /// The commit.
    pub(crate) commit: CommitId,
    /// Why it is held.
    pub(crate) held: Option<String>,
}

/// A fetch of a config repo is seconds. The loop waits for it, and its watchdog must
/// not: less than half of the unit's WatchdogSec of 60 s.
const FETCH_LIMIT: Duration = Duration::from_secs(25);

/// Fetch the tip, or take a commit of the mirror.
pub(crate) async fn fetch(host: &Host, rev: Option<&str>) -> Result<Tip, Failure> {
    let branch = branch(host)?;
    let repo = &host.settings.repo;
    let fetched = host
        .mirror
        .fetch(&repo.url, &branch, FETCH_LIMIT)
        .await
        .map_err(|error| failure(host, &error))?;
    if let Some(rev) = rev {
        let commit = host.mirror.resolve(rev).await;
        return Ok(Tip {
            commit: commit.map_err(|error| failure(host, &error))?,
            held: None,
        });
    }
    judge(host, &branch, &fetched).await
}

fn branch(host: &Host) -> Result<BranchName, Failure> {
    let text = &host.settings.repo.branch;
    text.parse().map_err(|error| {
        Failure::new(
            "TU0901",
            format!("repo.branch in the host configuration: {error}"),
        )
    })
}

fn failure(host: &Host, error: &GitError) -> Failure {
    let repo = &host.settings.repo;
    Failure::new("TU0909", error.to_string()).next(format!(
        "git ls-remote {} {}; nothing is changed while the branch cannot be read",
        shown_url(&repo.url),
        repo.branch
    ))
}

/// A tip that does not descend from the one that was accepted last is held until
/// somebody grants it.
async fn judge(host: &Host, branch: &BranchName, fetched: &FetchedTip) -> Result<Tip, Failure> {
    let commit = fetched.commit.clone();
    let held = match &fetched.moved {
        Moved::New | Moved::Same | Moved::Forward => None,
        Moved::Rewound { from } => {
            if granted(host, &commit)? {
                let accepted = host.mirror.accept(branch, &commit).await;
                accepted.map_err(|error| failure(host, &error))?;
                None
            } else {
                Some(format!(
                    "the branch was rewound: {} does not descend from {}",
                    commit.short(),
                    from.short()
                ))
            }
        }
    };
    Ok(Tip { commit, held })
}

fn granted(host: &Host, commit: &CommitId) -> Result<bool, Failure> {
    let grants = host
        .store
        .grants(seconds(now_s()))
        .map_err(|error| Failure::new("TU0902", error.to_string()))?;
    let id = format!("commit/{commit}");
    Ok(grants.iter().any(|grant| grant.id == id))
}
