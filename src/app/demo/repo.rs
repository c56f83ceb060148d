//! The demo's config repo: an ordinary repository with a work tree, and the `git` of
//! this machine.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use tokio::process::Command;
use trueup_model::id::CommitId;

use super::{broken, example};
use crate::cli::Failure;

/// Every command here takes milliseconds.
const LIMIT: Duration = Duration::from_secs(30);
/// Settings of the person who runs this that could stop a commit.
const OPTIONS: [&str; 6] = [
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "commit.gpgSign=false",
    "-c",
    "core.autocrlf=false",
];
/// What leads git to another repository than the one of its folder.
const STRIPPED: [&str; 5] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_NAMESPACE",
];

/// The config repo.
#[derive(Debug)]
pub(super) struct Repo {
    dir: Utf8PathBuf,
}

/// Git is there.
pub(super) async fn check_git() -> Result<(), Failure> {
    match git(Utf8Path::new("/"), &["--version"]).await {
        Ok(_) => Ok(()),
        Err(why) => Err(Failure::new("TU0919", format!("git cannot be run: {why}"))
            .next("install git (Debian, Ubuntu: apt-get install git)")),
    }
}

/// Run git in a folder: what it says.
pub(super) async fn git(dir: &Utf8Path, args: &[&str]) -> Result<String, String> {
    let mut command = Command::new("git");
    for name in STRIPPED {
        command.env_remove(name);
    }
    let run = command
        .args(OPTIONS)
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(LIMIT, run)
        .await
        .map_err(|_| format!("it took longer than {} s", LIMIT.as_secs()))?
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

impl Repo {
    /// The example, not committed yet.
    pub(super) async fn create(dir: &Utf8Path) -> Result<Self, Failure> {
        let repo = Self {
            dir: dir.to_owned(),
        };
        for (path, text) in example::FILES {
            let path = dir.join(path);
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).map_err(broken)?;
            }
            fs::write(&path, text).map_err(broken)?;
        }
        repo.git(&["init", "-q"]).await?;
        repo.git(&["symbolic-ref", "HEAD", "refs/heads/main"])
            .await?;
        // Those who go on from here commit without a name of their own, too.
        repo.git(&["config", "user.name", "trueup demo"]).await?;
        repo.git(&["config", "user.email", "demo@example.org"])
            .await?;
        Ok(repo)
    }

    async fn git(&self, args: &[&str]) -> Result<String, Failure> {
        git(&self.dir, args)
            .await
            .map_err(|why| broken(format!("git {}: {why}", args.join(" "))))
    }

    /// Put one text in the place of another in a file.
    pub(super) fn replace(&self, path: &str, old: &str, new: &str) -> Result<(), Failure> {
        let path = self.dir.join(path);
        let text = fs::read_to_string(&path).map_err(broken)?;
        if !text.contains(old) {
            return Err(broken(format!("{path} holds no {old:?}")));
        }
        fs::write(&path, text.replacen(old, new, 1)).map_err(broken)
    }

    /// Commit everything.
    pub(super) async fn commit(&self, message: &str) -> Result<CommitId, Failure> {
        self.git(&["add", "--all"]).await?;
        self.git(&["commit", "-q", "-m", message]).await?;
        let id = self.git(&["rev-parse", "HEAD"]).await?;
        id.trim().parse().map_err(broken)
    }

    /// What the last commit changes, without its frame.
    pub(super) async fn shown(&self) -> Result<String, Failure> {
        let text = self
            .git(&["show", "--format=%h %s", "--unified=0", "--no-color"])
            .await?;
        let lines = text.lines().filter(|line| {
            let frame = ["diff ", "index ", "--- ", "@@ "];
            !line.is_empty() && !frame.iter().any(|word| line.starts_with(word))
        });
        let lines: Vec<String> = lines
            .map(|line| match line.strip_prefix("+++ b/") {
                Some(path) => format!("  {path}"),
                None => format!("  {line}"),
            })
            .collect();
        Ok(lines.join("\n"))
    }
}
