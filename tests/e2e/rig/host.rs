//! trueup on `mgmt`: the service, the command, what it says of commits.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use trueup_bed::{Bed, ExecOutput, Machine};

use super::journal::{self, Performed};
use super::repo::BARE;
use super::{Keys, MGMT, Rig, eventually};

/// The state directory.
pub(crate) const STATE: &str = "/var/lib/trueup/host";
/// The host configuration.
const CONFIG: &str = "/etc/trueup/trueup.yaml";

const UNIT: &str = "[Unit]
Description=trueup
After=network-online.target
StartLimitIntervalSec=0
[Service]
Type=notify
Environment=TRUEUP_LOG=info
ExecStart=/usr/local/bin/trueup run
WatchdogSec=60
Restart=always
RestartSec=1
[Install]
WantedBy=multi-user.target
";

/// Puts the program, its keys and its unit on `mgmt`, which is off.
pub(crate) fn install(bed: &Bed, keys: &Keys) -> Result<()> {
    let mgmt = bed.machine(MGMT);
    mgmt.put_file("/usr/local/bin/trueup", 0o755, program(bed)?)?;
    mgmt.put_file("/etc/trueup/age.key", 0o600, &keys.age_identity)?;
    let ssh = fs::read(bed.ssh_key_path())?;
    mgmt.put_file("/etc/trueup/id_ed25519", 0o600, ssh)?;
    mgmt.put_file("/etc/systemd/system/trueup.service", 0o644, UNIT)
}

/// The program, without what only a debugger needs where `strip` is at hand.
pub(crate) fn program(bed: &Bed) -> Result<Vec<u8>> {
    let built = Path::new(env!("CARGO_BIN_EXE_trueup"));
    let small = bed.scratch()?.join("trueup");
    let stripped = Command::new("strip")
        .arg("-o")
        .args([&small, built])
        .status();
    let from = match stripped {
        Ok(status) if status.success() => small.as_path(),
        Ok(_) | Err(_) => built,
    };
    Ok(fs::read(from)?)
}

/// A line of a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Without `trueup/<fleet>/`.
    pub(crate) context: String,
    pub(crate) state: String,
    pub(crate) description: String,
}

/// trueup on its machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Host<'a> {
    pub(crate) rig: &'a Rig,
}

impl<'a> Host<'a> {
    pub(crate) fn machine(self) -> &'a Machine {
        self.rig.machine(MGMT)
    }

    /// Writes the host configuration; `more` is appended, `holder` names this host.
    pub(crate) fn configure(self, holder: &str, more: &str) -> Result<()> {
        let text = self.configuration(holder, STATE, more);
        self.machine().put_file(CONFIG, 0o600, text)
    }

    /// A host configuration with these switches.
    pub(crate) fn configure_with(self, switches: &str) -> Result<()> {
        let text = self.configuration("", STATE, "");
        let kept = text.lines().filter(|line| !line.starts_with("switches:"));
        let text = kept.chain([switches]).collect::<Vec<_>>().join("\n");
        self.machine().put_file(CONFIG, 0o600, text)
    }

    /// A host configuration.
    pub(crate) fn configuration(self, holder: &str, state: &str, more: &str) -> String {
        let holder = if holder.is_empty() { "mgmt" } else { holder };
        let network = self.rig.bed.host_ip().to_string();
        let network = network.rsplit_once('.').map_or("", |(net, _)| net);
        format!(
            "repo: {{url: {BARE}, branch: main}}
fleet: home
holder: {holder}
stateDir: {state}
age: {{identityFile: /etc/trueup/age.key}}
ssh: {{identities: {{default: /etc/trueup/id_ed25519}}}}
allow: {{addresses: [{network}.0/24]}}
k3s: {{releases: \"{}/releases/download\"}}
switches: {{reportDrift: true, correctDrift: true, rollOut: true}}
{more}",
            self.rig.releases.base_url()
        )
    }

    /// Starts the service; returns when it is ready.
    pub(crate) fn start(self) -> Result<()> {
        let limit = Duration::from_secs(150);
        let end = self
            .machine()
            .exec_with("systemctl start trueup", b"", limit)?;
        if end.code != Some(0) {
            let said = self
                .machine()
                .exec("journalctl -u trueup -o cat | tail -20")?;
            bail!("trueup does not start: {}{}", end.stderr, said.stdout);
        }
        Ok(())
    }

    /// kill -9, and no start by systemd.
    pub(crate) fn kill_and_stop(self) -> Result<()> {
        // The stop waits for the restart that systemd has scheduled, and cancels it.
        self.machine()
            .sh("systemctl kill -s KILL trueup; systemctl stop trueup")
            .map(drop)
    }

    pub(crate) fn stop(self) -> Result<()> {
        self.machine().sh("systemctl stop trueup").map(drop)
    }

    /// Runs the command; quoting is the caller's.
    pub(crate) fn trueup(self, args: &str) -> Result<ExecOutput> {
        let limit = Duration::from_secs(600);
        self.machine()
            .exec_with(&format!("trueup {args}"), b"", limit)
    }

    /// Runs the command, which must end with this code.
    pub(crate) fn trueup_ends(self, args: &str, code: i32) -> Result<ExecOutput> {
        let end = self.trueup(args)?;
        ensure!(
            end.code == Some(code),
            "trueup {args} ended with {:?}, not {code}:\n{}\n{}",
            end.code,
            end.stdout,
            end.stderr
        );
        Ok(end)
    }

    /// What `status` says.
    pub(crate) fn status(self) -> Result<serde_json::Value> {
        let end = self.trueup_ends("status -o json", 0)?;
        Ok(serde_json::from_str(&end.stdout)?)
    }

    /// All lines of a commit's note, oldest first.
    pub(crate) fn verdicts(self, commit: &str) -> Result<Vec<Verdict>> {
        let script = format!("git --git-dir={STATE}/mirror.git notes --ref=trueup show {commit}");
        let end = self.machine().exec(&script)?;
        Ok(end.stdout.lines().filter_map(verdict).collect())
    }

    /// The newest word of a context.
    pub(crate) fn newest(self, commit: &str, context: &str) -> Result<Option<Verdict>> {
        let mut all = self.verdicts(commit)?;
        all.retain(|verdict| verdict.context == context);
        Ok(all.pop())
    }

    /// Waits until a context is decided.
    pub(crate) fn wait_decided(
        self,
        commit: &str,
        context: &str,
        limit: Duration,
    ) -> Result<Verdict> {
        eventually(&format!("{context} of {commit}"), limit, || {
            let newest = self.newest(commit, context)?;
            Ok(newest.filter(|verdict| verdict.state != "pending"))
        })
    }

    /// Waits until the commit is converged.
    pub(crate) fn wait_success(self, commit: &str, limit: Duration) -> Result<()> {
        let verdict = self.wait_decided(commit, "converged", limit)?;
        ensure!(verdict.state == "success", "{verdict:?}");
        Ok(())
    }

    /// Steps that were performed, from the journal of the store, oldest first.
    pub(crate) fn performed(self) -> Result<Vec<Performed>> {
        journal::read(self.machine(), &self.rig.bed.scratch()?)
    }

    /// Logs of the service since it was first started.
    pub(crate) fn logs(self) -> Result<String> {
        self.machine().sh("journalctl -u trueup -o cat --no-pager")
    }
}

fn verdict(line: &str) -> Option<Verdict> {
    let (_, rest) = line.split_once("trueup/home/")?;
    let (context, rest) = rest.split_once(' ')?;
    let (state, description) = rest.split_once(':')?;
    Some(Verdict {
        context: context.to_owned(),
        state: state.to_owned(),
        description: description.trim_start().to_owned(),
    })
}
