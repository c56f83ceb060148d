//! A process named so that it can't be mistaken for a later one with the same id.

use std::{fmt, fs, str::FromStr};

use anyhow::{Context, Result};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A process id with the process' start time (clock ticks since boot, field 22 of
/// `/proc/PID/stat`): ids are reused, the pair is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessId {
    pub pid: i32,
    pub started_ticks: u64,
}

impl ProcessId {
    /// The process that has this id now; `None` when there is none or only its corpse.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The command name may hold blanks and brackets: fields count from its end.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let dead = matches!(*fields.first()?, "Z" | "X");
        let started_ticks = fields.get(19)?.parse().ok()?;
        (!dead).then_some(Self { pid, started_ticks })
    }

    /// This very process.
    pub fn me() -> Self {
        Self::of(i32::try_from(std::process::id()).unwrap()).expect("this process is alive")
    }

    pub fn is_alive(&self) -> bool {
        Self::of(self.pid) == Some(*self)
    }

    /// SIGKILL to exactly this process; nothing when it is gone already.
    pub fn kill(&self) -> Result<()> {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Ok(());
        };
        // The descriptor pins the process, so the look at its start time stays true.
        let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else {
            return Ok(());
        };
        if self.is_alive() {
            pidfd_send_signal(&pidfd, Signal::KILL)
                .with_context(|| format!("cannot kill process {}", self.pid))?;
        }
        Ok(())
    }

    /// The direct children of this process.
    pub fn children(&self) -> Vec<Self> {
        let list = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid))
            .unwrap_or_default();
        list.split_whitespace()
            .filter_map(|pid| Self::of(pid.parse().ok()?))
            .collect()
    }

    /// Whether it is the first process of a pid namespace below ours: a machine's PID 1.
    pub fn is_guest_init(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let ids = status
            .lines()
            .find_map(|line| line.strip_prefix("NSpid:"))
            .unwrap_or_default();
        let mut ids = ids.split_whitespace();
        ids.next().is_some() && ids.next_back() == Some("1")
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pid, self.started_ticks)
    }
}

impl FromStr for ProcessId {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (pid, started) = text
            .trim()
            .split_once(' ')
            .context("not a recorded process")?;
        Ok(Self {
            pid: pid.parse()?,
            started_ticks: started.parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::ProcessId;

    #[test]
    fn a_record_names_the_same_process_again() {
        let me = ProcessId::me();
        let read: ProcessId = me.to_string().parse().unwrap();
        assert_eq!(read, me);
        assert!(read.is_alive());
    }

    #[test]
    fn another_start_time_is_another_process() {
        let me = ProcessId::me();
        let earlier = ProcessId {
            started_ticks: me.started_ticks - 1,
            ..me
        };
        assert!(!earlier.is_alive());
        earlier.kill().unwrap();
        assert!(me.is_alive());
    }
}
