//! Repositories for the tests of this room and of the notes.

use std::process::{Command, Stdio};

use camino::{Utf8Path, Utf8PathBuf};
use trueup_model::id::CommitId;

/// A folder that goes away with it.
#[derive(Debug)]
pub(crate) struct Scratch {
    _keep: tempfile::TempDir,
    pub(crate) path: Utf8PathBuf,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let keep = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(keep.path().to_owned()).unwrap();
        Self { _keep: keep, path }
    }
}

/// Runs git as its users do; its answer.
pub(crate) fn git(dir: &Utf8Path, args: &[&str]) -> String {
    let out = Command::new("git")
        .arg("-C")
        .arg(dir)
        .args(["-c", "user.name=tester", "-c", "user.email=t@example.org"])
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "git {args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).unwrap().trim_end().to_owned()
}

/// A new repository with a branch `main` and no commit.
pub(crate) fn repository(path: &Utf8Path) {
    std::fs::create_dir_all(path).unwrap();
    git(path, &["init", "-q", "-b", "main"]);
}

/// An empty commit; its id.
pub(crate) fn commit(repo: &Utf8Path, message: &str) -> CommitId {
    git(repo, &["commit", "-q", "--allow-empty", "-m", message]);
    git(repo, &["rev-parse", "HEAD"]).parse().unwrap()
}
