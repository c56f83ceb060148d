//! Jobs: the machine's own systemd performs their operations one after the other, at
//! their times, whoever is there to see it. The rules are those of the node script.

use serde::{Deserialize, Serialize};
use trueup_model::id::{Claim, Digest};
use trueup_model::job::{JobExit, Operation};

use super::{Machine, SimFile};

/// Ended jobs that are remembered.
const KEPT_MAX: usize = 20;
/// Accounts of every machine.
const ACCOUNTS: &[&str] = &[
    "root", "daemon", "bin", "sys", "nobody", "nogroup", "adm", "www-data",
];
/// Exit codes of the node script that the model does not name: another type of file,
/// not owned, an operation that failed.
const OTHER_TYPE: i32 = 76;
const NOT_OWNED: i32 = 77;
const FAILED: i32 = 80;

/// A job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Job {
    /// Jobs of a machine run in this order.
    pub(crate) serial: u64,
    pub(crate) intent: Digest,
    pub(crate) claim: Claim,
    pub(crate) take_over: bool,
    pub(crate) operations: Vec<Operation>,
    /// Operations that are done; the claim comes before the first.
    pub(crate) done: usize,
    pub(crate) claimed: bool,
    /// The operation in work has begun its effect and waits for its end.
    pub(crate) waiting: bool,
    /// When the operation in work ends.
    pub(crate) next_ms: i64,
    pub(crate) deadline_ms: i64,
    pub(crate) boot: String,
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
}

/// How an operation ended.
pub(crate) enum End {
    Done,
    Again(String),
    Failed(i32, String),
}

pub(crate) fn failed(why: impl Into<String>) -> End {
    End::Failed(FAILED, why.into())
}

impl Machine {
    /// The holder's own epoch may grow; another holder is turned away unless asked for.
    pub(crate) fn take_claim(
        &mut self,
        claim: &Claim,
        take_over: bool,
    ) -> Result<(), (i32, String)> {
        if let Some(recorded) = &self.owner.claim {
            let ours = recorded.holder == claim.holder;
            if !ours && !take_over {
                let why = format!("held by {} (epoch {})", recorded.holder, recorded.epoch);
                return Err((JobExit::OTHER_HOLDER, why));
            }
            if claim.epoch < recorded.epoch || !ours && claim.epoch == recorded.epoch {
                let why = format!(
                    "the recorded epoch is {}, ours is {}",
                    recorded.epoch, claim.epoch
                );
                return Err((JobExit::STALE_EPOCH, why));
            }
        }
        self.owner.claim = Some(claim.clone());
        Ok(())
    }

    pub(crate) fn install(
        &mut self,
        job: &str,
        path: &str,
        sha256: &Digest,
        (mode, owner, group): (&str, &str, &str),
        now_ms: i64,
    ) -> End {
        if self.is_folder(path) {
            return End::Failed(OTHER_TYPE, format!("{path} is not a regular file"));
        }
        if let Some(who) = [owner, group]
            .into_iter()
            .find(|who| !ACCOUNTS.contains(who))
        {
            return failed(format!("chown: invalid user: '{who}'"));
        }
        let staged = self
            .staged
            .get_mut(job)
            .and_then(|files| files.remove(path));
        let (content, mtime_s) = match (staged, self.files.get(path)) {
            (Some(content), _) => (content, now_ms / 1000),
            (None, Some(live)) => (live.content.clone(), live.mtime_s),
            (None, None) => {
                return End::Failed(JobExit::STAGE_LOST, format!("nothing is staged for {path}"));
            }
        };
        if content.digest() != *sha256 {
            let why = format!("the staged {path} has another digest");
            return End::Failed(JobExit::STAGE_LOST, why);
        }
        self.owner.files.insert(path.to_owned(), sha256.clone());
        let file = SimFile {
            content,
            mode: format!("{mode:0>4}"),
            owner: owner.to_owned(),
            group: group.to_owned(),
            mtime_s,
        };
        self.files.insert(path.to_owned(), file);
        End::Done
    }

    pub(crate) fn adopt(&mut self, path: &str, sha256: &Digest) -> End {
        match self.files.get(path) {
            Some(file) if file.content.digest() == *sha256 => {
                self.owner.files.insert(path.to_owned(), sha256.clone());
                End::Done
            }
            Some(_) | None => End::Failed(
                JobExit::CONTENT_DIFFERS,
                format!("{path} has other content"),
            ),
        }
    }

    pub(crate) fn remove(&mut self, path: &str) -> End {
        if self.owner.files.remove(path).is_some() {
            self.files.remove(path);
            return End::Done;
        }
        match self.files.get(path) {
            Some(_) => End::Failed(NOT_OWNED, format!("{path} is not trueup's")),
            None => End::Done,
        }
    }

    pub(crate) fn forget_jobs(&mut self) {
        let ended = self.jobs.values().filter(|job| job.code.is_some());
        let mut serials: Vec<u64> = ended.map(|job| job.serial).collect();
        serials.sort_unstable();
        let surplus = serials.len().saturating_sub(KEPT_MAX);
        let gone: Vec<u64> = serials.into_iter().take(surplus).collect();
        self.jobs.retain(|_, job| !gone.contains(&job.serial));
    }
}
