//! git (stand-in until merged)
use camino::{Utf8Path, Utf8PathBuf};
use trueup_model::id::CommitId;
pub mod batch;
pub mod objects;
pub mod watch {
    use std::sync::Arc;
    use tokio::sync::Notify;
    pub fn local(_url: &str, _branch: &str, _n: Arc<Notify>) -> Option<()> {
        None
    }
}
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct GitError(pub String);
#[derive(Debug)]
pub struct Mirror {
    dir: Utf8PathBuf,
}
#[derive(Debug)]
pub enum Moved {
    New,
    Same,
    Forward,
    Rewound { from: CommitId },
}
#[derive(Debug)]
pub struct FetchedTip {
    pub commit: CommitId,
    pub moved: Moved,
}
impl Mirror {
    pub fn open(dir: &Utf8Path) -> Result<Self, GitError> {
        if !dir.exists() {
            git2::Repository::init_bare(dir).map_err(|e| GitError(e.to_string()))?;
        }
        Ok(Self {
            dir: dir.to_owned(),
        })
    }
    pub fn dir(&self) -> &Utf8Path {
        &self.dir
    }
    pub fn resolve(&self, rev: &str) -> Result<CommitId, GitError> {
        let repo = git2::Repository::open_bare(&self.dir).map_err(|e| GitError(e.to_string()))?;
        let c = repo
            .revparse_single(rev)
            .map_err(|e| GitError(e.to_string()))?;
        c.id()
            .to_string()
            .parse()
            .map_err(|e| GitError(format!("{e}")))
    }
    pub async fn fetch(&self, url: &str, branch: &str) -> Result<FetchedTip, GitError> {
        let out = tokio::process::Command::new("git")
            .args([
                "--git-dir",
                self.dir.as_str(),
                "fetch",
                "-q",
                url,
                &format!("+refs/heads/{branch}:refs/trueup/branches/{branch}"),
            ])
            .output()
            .await
            .map_err(|e| GitError(e.to_string()))?;
        if !out.status.success() {
            return Err(GitError(String::from_utf8_lossy(&out.stderr).into_owned()));
        }
        Ok(FetchedTip {
            commit: self.resolve(&format!("refs/trueup/branches/{branch}"))?,
            moved: Moved::Same,
        })
    }
}
