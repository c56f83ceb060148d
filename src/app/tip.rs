//! The tip of the tracked branch: fetched, and held where the branch is not what it
//! was. A rewound, empty or vanished branch is never read as "delete everything".

use trueup_drivers::git::{FetchedTip, GitError, Moved};
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

/// Fetch the tip, or take a commit of the mirror.
pub(crate) async fn fetch(host: &Host, rev: Option<&str>) -> Result<Tip, Failure> {
    let fetched = newest(host).await?;
    if let Some(rev) = rev {
        let commit = host
            .mirror
            .resolve(rev)
            .map_err(|error| Failure::new("TU0909", error.to_string()))?;
        return Ok(Tip { commit, held: None });
    }
    judge(host, &fetched).map_err(|error| Failure::new("TU0902", error.to_string()))
}

/// Fetch the branch.
async fn newest(host: &Host) -> Result<FetchedTip, Failure> {
    let repo = &host.settings.repo;
    host.mirror
        .fetch(&repo.url, &repo.branch)
        .await
        .map_err(|error| failure(host, &error))
}

fn failure(host: &Host, error: &GitError) -> Failure {
    let repo = &host.settings.repo;
    Failure::new("TU0909", error.to_string()).next(format!(
        "git ls-remote {} {}; nothing is changed while the branch cannot be read",
        repo.url, repo.branch
    ))
}

/// A tip that does not descend from the one that was accepted last is held until
/// somebody grants it.
pub(crate) fn judge(
    host: &Host,
    fetched: &FetchedTip,
) -> Result<Tip, trueup_model::port::StoreError> {
    let commit = fetched.commit.clone();
    let now = seconds(now_s());
    let granted = host
        .store
        .grants(now)?
        .iter()
        .any(|grant| grant.id == format!("commit/{commit}"));
    let held = match &fetched.moved {
        Moved::Rewound { from } if !granted => Some(format!(
            "the branch was rewound: {} does not descend from {}",
            commit.short(),
            from.short()
        )),
        Moved::Rewound { .. } | Moved::New | Moved::Same | Moved::Forward => None,
    };
    Ok(Tip { commit, held })
}
