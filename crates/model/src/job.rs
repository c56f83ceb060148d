//! Jobs: every writing action on a machine. A job is a list of operations that
//! the machine's own systemd performs, so that it goes on when we or SSH die.

use serde::{Deserialize, Serialize};

use crate::id::{Claim, Digest};

/// Name of a job: the step, the epoch and a number. It is the job's folder below
/// `/var/lib/trueup/jobs` and, with the prefix `trueup-`, its transient unit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(String);

impl JobId {
    /// A try of the step with this digest. `number` never repeats within an epoch, and
    /// an epoch never repeats: so no two tries share a name, also when the store was lost.
    pub fn new(step: &Digest, epoch: u64, number: u64) -> Self {
        let step = step.0.get(..24).unwrap_or(&step.0);
        Self(format!("{step}-{epoch}-{number}"))
    }
    /// Lower-case hex digits, two numbers, dashes between.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for JobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a job does, in order, under the machine's lock. It stops at the first
/// operation that fails. Every operation is idempotent: done twice equals once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSpec {
    /// Its name.
    pub id: JobId,
    /// Written into the ownership record before the first operation; refused by
    /// the machine where its record has a higher epoch or another holder.
    pub claim: Claim,
    /// True only for a take-over that somebody asked for (`claim --take-over`).
    pub take_over: bool,
    /// The operations.
    pub operations: Vec<Operation>,
    /// After so many seconds systemd ends the job (`RuntimeMaxSec`).
    pub timeout_s: u32,
}

impl JobSpec {
    /// Digest of what the job is asked to do; the machine keeps it in the job's
    /// folder, so that a re-attached job is known to be the same.
    pub fn intent(&self) -> Digest {
        Digest::of(format!("{:?}", self.operations).as_bytes())
    }
}

/// One operation on a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Rename the staged sibling over `path` and record it as owned (the record is
    /// written first). Where no sibling is staged and `path` already has this
    /// digest, only mode and owner are set.
    InstallFile {
        /// Absolute path.
        path: String,
        /// SHA-256 of the content.
        sha256: Digest,
        /// Octal permission bits, as text (`0644`).
        mode: String,
        /// Name of the owning user.
        owner: String,
        /// Name of the owning group.
        group: String,
    },
    /// Record an existing file with equal content as owned; nothing is written to it.
    AdoptFile {
        /// Absolute path.
        path: String,
        /// SHA-256 that it must have.
        sha256: Digest,
    },
    /// Remove a file that the ownership record names, and forget it.
    RemoveFile {
        /// Absolute path.
        path: String,
    },
    /// Set a kernel setting now (its place after a reboot is a file of its own).
    Sysctl {
        /// Dotted name below `net.`.
        key: String,
        /// Value.
        value: String,
    },
    /// `systemctl daemon-reload`.
    DaemonReload,
    /// `systemctl enable|disable|start|stop|restart UNIT`. `start` and `restart`
    /// wait until the unit is ready (`Type=notify`) or the job's time is over.
    Systemctl {
        /// What to do.
        verb: SystemctlVerb,
        /// Unit with its suffix.
        unit: String,
    },
    /// Record, after a unit came up, which inputs its process started with:
    /// `run UNIT INVOCATION-ID DIGEST`.
    RecordRun {
        /// Unit with its suffix.
        unit: String,
        /// Digest of the inputs (binary, effective configuration, unit, token).
        inputs: Digest,
    },
}

/// Verbs of `systemctl` that a job may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SystemctlVerb {
    /// Start at boot.
    Enable,
    /// Do not start at boot.
    Disable,
    /// Start now, if it does not run.
    Start,
    /// Stop now.
    Stop,
    /// Stop if it runs, then start.
    Restart,
}

impl SystemctlVerb {
    /// The word on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
        }
    }
}

/// What is known of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobState {
    /// The machine has no folder of that name: it never started (or was swept).
    Absent,
    /// Its unit is active.
    Running,
    /// It wrote its exit code.
    Ended {
        /// Exit code; 0 is success. See [`JobExit`].
        code: i32,
        /// Last lines of what it said, capped at 4 KiB, without control characters.
        output: String,
    },
    /// Its unit is gone without an exit code, or the machine has booted since:
    /// whether it had an effect is unknown. Observe, then decide.
    Unknown,
}

/// Exit codes of the node script that have a meaning of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobExit;

impl JobExit {
    /// The machine's record names a higher epoch.
    pub const STALE_EPOCH: i32 = 71;
    /// The machine's record names another holder.
    pub const OTHER_HOLDER: i32 = 72;
    /// No space left on the machine.
    pub const NO_SPACE: i32 = 73;
    /// A staged file is missing or has another digest.
    pub const STAGE_LOST: i32 = 74;
    /// A file that was to be adopted has other content.
    pub const CONTENT_DIFFERS: i32 = 75;
}
