//! systemd's units, as far as `systemctl show` and `systemctl start` tell of them.

use serde::{Deserialize, Serialize};
use trueup_model::id::Digest;
use trueup_model::job::SystemctlVerb;

use super::{Machine, k3s};

/// Units that every machine has without a file below `/etc`.
pub(crate) const BUILT_IN: &[&str] = &["cron.service", "ssh.service", "systemd-timesyncd.service"];

/// `ActiveState`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Active {
    #[default]
    Inactive,
    /// Active.
    Up,
    Activating,
    Failed,
}

impl Active {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Up => "active",
            Self::Activating => "activating",
            Self::Failed => "failed",
        }
    }
}

/// What systemd remembers of a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unit {
    pub(crate) enabled: bool,
    pub(crate) active: Active,
    /// `Result`; empty: success.
    pub(crate) result: String,
    pub(crate) invocation: String,
    pub(crate) started_s: i64,
    pub(crate) restarts: u32,
    /// Digest of its file when systemd last read it; `None`: not in memory.
    pub(crate) loaded: Option<Digest>,
    /// Since when it does not run.
    pub(crate) stopped_ms: i64,
}

impl Unit {
    pub(crate) fn running(invocation: &str, now_ms: i64) -> Self {
        Self {
            enabled: true,
            active: Active::Up,
            invocation: invocation.to_owned(),
            started_s: now_ms / 1000,
            ..Self::default()
        }
    }
}

/// The keys of a unit file that count here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Fragment {
    pub(crate) kind: String,
    pub(crate) remains: bool,
    pub(crate) exec: String,
    pub(crate) installable: bool,
}

impl Fragment {
    pub(crate) fn parse(text: &str) -> Self {
        let mut fragment = Self {
            kind: "simple".to_owned(),
            ..Self::default()
        };
        for line in text.lines().map(str::trim) {
            if line == "[Install]" {
                fragment.installable = true;
            }
            match line.split_once('=') {
                Some(("Type", value)) => value.trim().clone_into(&mut fragment.kind),
                Some(("RemainAfterExit", value)) => {
                    fragment.remains = matches!(value.trim(), "yes" | "true" | "1" | "on");
                }
                Some(("ExecStart", value)) => value.trim().clone_into(&mut fragment.exec),
                _ => {}
            }
        }
        fragment
    }
}

/// How a start ended.
pub(crate) enum Started {
    /// It is up.
    Ready,
    /// It goes on trying; `systemctl start` waits.
    Waits(String),
    /// `systemctl start` fails: why.
    Failed(String),
}

impl Machine {
    /// Path of the unit's file and its text.
    pub(crate) fn fragment(&self, name: &str) -> Option<(String, &[u8])> {
        let path = format!("/etc/systemd/system/{name}");
        let file = self.files.get(&path)?;
        Some((path, file.content.bytes()))
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        BUILT_IN.contains(&name) || self.fragment(name).is_some()
    }

    /// `systemctl daemon-reload`.
    pub(crate) fn reload(&mut self) {
        let names: Vec<String> = self.units.keys().cloned().collect();
        for name in names {
            let digest = self.fragment(&name).map(|(_, text)| Digest::of(text));
            if let Some(unit) = self.units.get_mut(&name) {
                unit.loaded = digest;
            }
        }
    }

    /// `systemctl enable|disable|stop`; starting is the fleet's, since k3s needs others.
    pub(crate) fn control(
        &mut self,
        verb: SystemctlVerb,
        name: &str,
        now_ms: i64,
    ) -> Result<(), String> {
        if !self.exists(name) {
            return Err(format!("Unit {name} could not be found."));
        }
        let installable = BUILT_IN.contains(&name)
            || self.fragment(name).is_some_and(|(_, text)| {
                Fragment::parse(&String::from_utf8_lossy(text)).installable
            });
        let unit = self.units.entry(name.to_owned()).or_default();
        match verb {
            SystemctlVerb::Enable => unit.enabled = installable,
            SystemctlVerb::Disable => unit.enabled = false,
            SystemctlVerb::Stop => {
                if unit.active != Active::Inactive {
                    unit.stopped_ms = now_ms;
                }
                unit.active = Active::Inactive;
                unit.result.clear();
            }
            SystemctlVerb::Start | SystemctlVerb::Restart => {}
        }
        Ok(())
    }

    /// Start a unit that is not k3s.
    pub(crate) fn start_plain(&mut self, name: &str, invocation: &str, now_ms: i64) -> Started {
        let fragment = match self.fragment(name) {
            Some((_, text)) => Fragment::parse(&String::from_utf8_lossy(text)),
            None if BUILT_IN.contains(&name) => Fragment::default(),
            None => return Started::Failed(format!("Unit {name} could not be found.")),
        };
        let loaded = self.fragment(name).map(|(_, text)| Digest::of(text));
        let program = fragment.exec.split_whitespace().next().unwrap_or_default();
        let program = program.trim_start_matches(['-', '@', '+', '!', ':']);
        let found = program.is_empty()
            || ["/bin/", "/sbin/", "/usr/bin/", "/usr/sbin/"]
                .iter()
                .any(|dir| program.starts_with(dir))
            || self
                .files
                .get(program)
                .is_some_and(|file| is_executable(&file.mode));
        let unit = self.units.entry(name.to_owned()).or_default();
        invocation.clone_into(&mut unit.invocation);
        unit.started_s = now_ms / 1000;
        unit.loaded = loaded;
        unit.restarts = 0;
        if !found {
            unit.active = Active::Failed;
            unit.stopped_ms = now_ms;
            "exit-code".clone_into(&mut unit.result);
            return Started::Failed(format!(
                "Failed at step EXEC spawning {program}: No such file or directory"
            ));
        }
        unit.result.clear();
        unit.active = if fragment.kind == "oneshot" && !fragment.remains {
            Active::Inactive
        } else {
            Active::Up
        };
        Started::Ready
    }

    /// `Property=Value` lines of `systemctl show`.
    pub(crate) fn show(&self, name: &str) -> String {
        let unit = self.unit(name);
        let file = self.fragment(name);
        let fragment = file
            .as_ref()
            .map(|(_, text)| Fragment::parse(&String::from_utf8_lossy(text)))
            .unwrap_or_default();
        let known = self.exists(name);
        let file_state = match (known, unit.enabled) {
            (false, _) => "",
            (true, true) => "enabled",
            (true, false) if file.is_some() && !fragment.installable => "static",
            (true, false) => "disabled",
        };
        let stale = match (&unit.loaded, &file) {
            (Some(loaded), Some((_, text))) => *loaded != Digest::of(text),
            _ => false,
        };
        let sub = match unit.active {
            Active::Inactive => "dead",
            Active::Up if fragment.kind == "oneshot" => "exited",
            Active::Up => "running",
            Active::Activating if k3s::SERVICES.contains(&name) => "start",
            Active::Activating => "auto-restart",
            Active::Failed => "failed",
        };
        let result = if unit.result.is_empty() {
            "success"
        } else {
            &unit.result
        };
        format!(
            "LoadState={}\nActiveState={}\nSubState={sub}\nUnitFileState={file_state}\nResult={result}\nType={}\nInvocationID={}\nExecMainStartTimestamp={}\nNRestarts={}\nNeedDaemonReload={}\nFragmentPath={}\nRemainAfterExit={}\n",
            if known { "loaded" } else { "not-found" },
            unit.active.as_str(),
            fragment.kind,
            unit.invocation,
            if unit.started_s > 0 {
                unit.started_s.to_string()
            } else {
                String::new()
            },
            unit.restarts,
            if stale { "yes" } else { "no" },
            file.as_ref().map_or("", |(path, _)| path),
            if fragment.remains { "yes" } else { "no" },
        )
    }
}

fn is_executable(mode: &str) -> bool {
    mode.bytes()
        .any(|digit| (digit.wrapping_sub(b'0')) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_is_read() {
        let text = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n[Install]\n";
        let wanted = Fragment {
            kind: "oneshot".into(),
            remains: true,
            exec: "/bin/true".into(),
            installable: true,
        };
        assert_eq!(Fragment::parse(text), wanted);
    }
}
