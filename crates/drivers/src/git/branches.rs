//! Branches beside the tracked one: fetched by pattern, listed, never accepted as
//! anything. Only branches of the repository itself: forks have refs of their own.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use trueup_model::id::CommitId;
use trueup_model::port::{BranchName, GitError};

use super::mirror::{FETCH, Mirror};
use super::{failure, url};
use crate::git_process::GitProcess;

/// Where they lie in the mirror, apart from what is tracked.
const PLANNED: &str = "refs/trueup/planned/";
/// Branches that are listed at most, those with the newest commits.
const TIPS_MAX: usize = 50;

/// A branch, or many: one `*` stands for any text, slashes too, as in git's refspecs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchGlob(String);

impl FromStr for BranchGlob {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{text:?} is no pattern of branches: {why}");
        if text.matches('*').count() > 1 {
            return Err(wrong("write one `*` at most"));
        }
        text.replace('*', "x")
            .parse::<BranchName>()
            .map_err(|error| wrong(&error.to_string()))?;
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for BranchGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl BranchGlob {
    fn matches(&self, name: &str) -> bool {
        match self.0.split_once('*') {
            None => self.0 == name,
            Some((before, after)) => {
                name.len() >= before.len() + after.len()
                    && name.starts_with(before)
                    && name.ends_with(after)
            }
        }
    }
}

impl Mirror {
    /// Fetches the branches that match; their tips, the newest commits first. What is
    /// gone there is gone here.
    pub async fn fetch_matching(
        &self,
        url: &str,
        globs: &[BranchGlob],
        limit: Duration,
    ) -> Result<Vec<(BranchName, CommitId)>, GitError> {
        url::check(url)?;
        let _one = self.write().await;
        let (many, single): (Vec<_>, Vec<_>) = globs.iter().partition(|glob| glob.0.contains('*'));
        if !many.is_empty() {
            self.fetch_planned(url, &many, limit).await?;
        }
        for glob in single {
            // A fetch of a branch that is not there fails as a whole: each by itself.
            if !self.fetch_planned(url, &[glob], limit).await? {
                self.forget(&format!("{PLANNED}{glob}")).await?;
            }
        }
        self.planned(globs).await
    }

    /// False where a branch without a `*` is not there.
    async fn fetch_planned(
        &self,
        url: &str,
        globs: &[&BranchGlob],
        limit: Duration,
    ) -> Result<bool, GitError> {
        let refspecs: Vec<String> = globs
            .iter()
            .map(|glob| format!("+refs/heads/{glob}:{PLANNED}{glob}"))
            .collect();
        let mut args = FETCH.to_vec();
        args.extend(["--prune", "--", url]);
        args.extend(refspecs.iter().map(String::as_str));
        let process = GitProcess {
            limit,
            ..self.short(&args)
        };
        let end = self.git(process).await?;
        if end.is_success() {
            return Ok(true);
        }
        if end.stderr.contains("couldn't find remote ref") {
            return Ok(false);
        }
        Err(failure::of_remote("fetch", self.dir(), url, &end))
    }

    async fn forget(&self, name: &str) -> Result<(), GitError> {
        let args = ["update-ref", "-d", name];
        let end = self.git(self.short(&args)).await?;
        self.success("update-ref", end).map(drop)
    }

    async fn planned(&self, globs: &[BranchGlob]) -> Result<Vec<(BranchName, CommitId)>, GitError> {
        let args = [
            "for-each-ref",
            "--sort=-committerdate",
            "--format=%(refname) %(objectname)",
            PLANNED,
        ];
        let end = self.git(self.short(&args)).await?;
        let mut found = Vec::new();
        for line in self.success("for-each-ref", end)?.text().lines() {
            let Some((name, commit)) = line.split_once(' ') else {
                continue;
            };
            let branch = name.strip_prefix(PLANNED).unwrap_or_default();
            if !globs.iter().any(|glob| glob.matches(branch)) {
                // Of a pattern that was configured once.
                self.forget(name).await?;
            } else if let (Ok(branch), Ok(commit)) = (branch.parse(), commit.parse()) {
                found.push((branch, commit));
            }
        }
        found.truncate(TIPS_MAX);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::testbed::{Scratch, commit, git, repository};

    fn globs(texts: &[&str]) -> Vec<BranchGlob> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn patterns_are_those_of_refspecs() {
        let glob = |text: &str| text.parse::<BranchGlob>().unwrap();
        assert!(glob("feature/*").matches("feature/a/b"));
        assert!(!glob("feature/*").matches("feature"));
        assert!(glob("*").matches("x"));
        assert!(glob("a*a").matches("aa") && !glob("a*a").matches("a"));
        assert!(glob("main").matches("main") && !glob("main").matches("main2"));
        for bad in ["", "a*b*", "a b", "../x", "-x", "a:b", "+a"] {
            assert!(bad.parse::<BranchGlob>().is_err() || bad == "+a", "{bad}");
        }
    }

    #[tokio::test]
    async fn branches_come_and_go() {
        let scratch = Scratch::new();
        let (origin, dir) = (scratch.path.join("origin"), scratch.path.join("m.git"));
        repository(&origin);
        let one = commit(&origin, "one");
        for name in ["feature/a", "feature/b/c", "other", "release"] {
            git(&origin, &["branch", name]);
        }
        let mirror = Mirror::open(&dir).await.unwrap();
        let limit = Duration::from_secs(20);
        let names = async |wanted: &[&str]| -> Vec<String> {
            let globs = globs(wanted);
            let tips = mirror.fetch_matching(origin.as_str(), &globs, limit);
            let mut tips = tips.await.unwrap();
            tips.sort();
            assert!(tips.iter().all(|(_, commit)| *commit == one));
            tips.iter().map(|(name, _)| name.to_string()).collect()
        };
        let both = ["feature/*", "release", "gone"];
        assert_eq!(names(&both).await, ["feature/a", "feature/b/c", "release"]);
        git(&origin, &["branch", "-D", "feature/a"]);
        git(&origin, &["branch", "-D", "release"]);
        // A folder takes the place of a branch.
        git(&origin, &["branch", "feature/a/x"]);
        assert_eq!(names(&both).await, ["feature/a/x", "feature/b/c"]);
        assert_eq!(names(&["other"]).await, ["other"]);
        assert_eq!(names(&[]).await, [""; 0]);
        let branch = BranchName::default();
        assert_eq!(
            mirror.head(&branch).await.unwrap(),
            None,
            "nothing is accepted"
        );
    }
}
