//! One machine: what a test may ask of it and do to it.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{
    digest::TreeDigest,
    disk::{Disk, PLAIN_DIR},
    keys::KeyPair,
    network::Port,
    power::{Launch, Power},
    wait::wait_until,
};

/// From power to an answer of sshd: 1–2 s; with many machines at once on two cores, more.
const SSH_LIMIT: Duration = Duration::from_secs(60);
/// For a clean shutdown with services that stop slowly.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(120);
/// For one command, where the test gives no limit of its own.
const EXEC_LIMIT: Duration = Duration::from_secs(120);

const SSH_PORT: u16 = 22;
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a command answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// `None` when a signal ended it; 137 when its limit passed.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl ExecOutput {
    /// The standard output of a command that succeeded.
    pub fn ok(self) -> Result<String> {
        anyhow::ensure!(
            self.code == Some(0),
            "exit code {:?}: {}{}",
            self.code,
            self.stderr.trim(),
            if self.stderr.is_empty() {
                self.stdout.trim()
            } else {
                ""
            }
        );
        Ok(self.stdout)
    }
}

/// A machine of a bed. All methods take `&self`: a test may cut the power from
/// one thread while another one probes.
#[derive(Debug)]
pub struct Machine {
    pub(crate) name: String,
    pub(crate) port: Port,
    pub(crate) disk: Disk,
    pub(crate) host_key: KeyPair,
    pub(crate) login: PathBuf,
    pub(crate) known_hosts: PathBuf,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) launch: Launch,
    pub(crate) power: Power,
}

impl Machine {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn ip(&self) -> IpAddr {
        self.port.address().into()
    }

    pub fn ssh_port(&self) -> u16 {
        SSH_PORT
    }

    /// The public host key, as a known_hosts line has it after the name.
    pub fn host_key_openssh(&self) -> &str {
        self.host_key.public()
    }

    pub fn is_on(&self) -> bool {
        self.power.is_on()
    }

    /// Everything the machine wrote on its console since the bed began.
    pub fn console(&self) -> String {
        std::fs::read_to_string(&self.launch.console).unwrap_or_default()
    }

    /// Runs a shell script as root in the machine, without SSH.
    pub fn exec(&self, script: &str) -> Result<ExecOutput> {
        self.exec_with(script, b"", EXEC_LIMIT)
    }

    /// The output of a script that must succeed.
    pub fn sh(&self, script: &str) -> Result<String> {
        self.exec(script)?
            .ok()
            .with_context(|| format!("on {}: `{script}`", self.name))
    }

    /// [`Machine::exec`] with input and a limit of its own.
    pub fn exec_with(&self, script: &str, input: &[u8], limit: Duration) -> Result<ExecOutput> {
        let guest = self
            .power
            .guest()
            .with_context(|| format!("{} is off", self.name))?;
        let mut command = Command::new("timeout");
        command
            .args(["-s", "KILL", &limit.as_secs().max(1).to_string()])
            .args([
                "nsenter",
                "-t",
                &guest.pid.to_string(),
                "-m",
                "-u",
                "-i",
                "-n",
                "-p",
                "--",
            ])
            .args([
                "env",
                "-i",
                &format!("PATH={PATH}"),
                "HOME=/root",
                "LANG=C.UTF-8",
            ])
            .args(
                self.env
                    .iter()
                    .map(|(name, value)| format!("{name}={value}")),
            )
            .args(["sh", "-c", "cd; eval \"$1\"", "sh", script]);
        finish(command, input)
    }

    /// Runs a shell script over SSH as `root` or `ops`, the host key being checked.
    pub fn exec_ssh(&self, user: &str, script: &str) -> Result<ExecOutput> {
        let mut command = Command::new("ssh");
        command
            .args([
                "-F",
                "none",
                "-o",
                "BatchMode=yes",
                "-o",
                "ConnectTimeout=10",
                "-o",
                "IdentitiesOnly=yes",
            ])
            .args([
                "-o",
                "StrictHostKeyChecking=yes",
                "-o",
                "ServerAliveInterval=5",
                "-o",
                "LogLevel=ERROR",
            ])
            .args([
                "-o",
                &format!("UserKnownHostsFile={}", self.known_hosts.display()),
            ])
            .arg("-i")
            .arg(&self.login)
            .args([&format!("{user}@{}", self.ip()), "--", script]);
        finish(command, b"")
    }

    /// Writes a file, owned by root; the machine may be on or off.
    pub fn put_file(&self, path: &str, mode: u32, content: impl AsRef<[u8]>) -> Result<()> {
        if !self.is_on() {
            return self.disk.write(path, mode, content);
        }
        let script = format!(
            "umask 077; mkdir -p \"$(dirname '{path}')\" && cat >'{path}.bed' && chmod {mode:o} '{path}.bed' && mv -T '{path}.bed' '{path}'"
        );
        self.exec_with(&script, content.as_ref(), EXEC_LIMIT)?
            .ok()
            .with_context(|| format!("cannot write {path}"))?;
        Ok(())
    }

    /// Reads a file from the machine's disk, on or off. Not for `/run`, `/proc` and `/dev`.
    pub fn read_file(&self, path: &str) -> Result<Vec<u8>> {
        let file = self.disk.host_path(path)?;
        std::fs::read(&file).with_context(|| format!("cannot read {path} of {}", self.name))
    }

    /// [`Machine::read_file`] as text.
    pub fn read_text(&self, path: &str) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.read_file(path)?).into_owned())
    }

    /// The host's directory that is the machine's `/`.
    pub fn root_dir(&self) -> &Path {
        self.disk.root()
    }

    /// Everything on the disk that is not the shared tree, except at or below `exclude`
    /// ([`crate::digest::RESTLESS`] is what a machine writes by itself).
    pub fn tree_digest(&self, exclude: &[&str]) -> Result<TreeDigest> {
        TreeDigest::of(
            &[(&self.disk.upper(), "/"), (&self.disk.plain(), PLAIN_DIR)],
            exclude,
        )
    }

    /// Cuts the power: the cable goes dead, PID 1 is killed, nothing says goodbye. The disk stays.
    pub fn power_cut(&self) -> Result<()> {
        if self.is_on() {
            self.port.down()?;
        }
        self.power.cut(SHUTDOWN_LIMIT)?;
        self.port.unplug()
    }

    /// Starts the machine and returns when its sshd answers.
    pub fn power_on(&self) -> Result<()> {
        self.power_on_unready()?;
        self.wait_ssh()
    }

    /// Starts the machine and returns when its PID 1 exists.
    pub fn power_on_unready(&self) -> Result<()> {
        self.port.plug()?;
        self.power.switch_on(&self.launch)
    }

    /// Shuts down cleanly.
    pub fn power_off(&self) -> Result<()> {
        self.exec("systemctl poweroff")?;
        self.power.wait_for_off(SHUTDOWN_LIMIT)?;
        self.port.unplug()
    }

    /// Reboots cleanly and returns when sshd answers again.
    pub fn reboot(&self) -> Result<()> {
        let boots = self.power.boots();
        self.exec("systemctl reboot")?;
        self.power.wait_for_boot(boots + 1, SHUTDOWN_LIMIT)?;
        self.wait_ssh()
    }

    /// How often it was started, reboots by itself included.
    pub fn boots(&self) -> u32 {
        self.power.boots()
    }

    /// Takes the cable out: a partition.
    pub fn link_down(&self) -> Result<()> {
        self.port.down()
    }

    pub fn link_up(&self) -> Result<()> {
        self.port.up()
    }

    /// Keeps the disk's present state under a name. The machine must be off.
    pub fn snapshot(&self, name: &str) -> Result<()> {
        anyhow::ensure!(!self.is_on(), "{} is on", self.name);
        self.disk.snapshot(name)
    }

    /// Puts the disk back. The machine must be off.
    pub fn restore(&self, name: &str) -> Result<()> {
        anyhow::ensure!(!self.is_on(), "{} is on", self.name);
        self.disk.restore(name)
    }

    /// Returns when sshd sends its banner.
    pub fn wait_ssh(&self) -> Result<()> {
        let address = SocketAddr::new(self.ip(), SSH_PORT);
        wait_until(&format!("sshd of {}", self.name), SSH_LIMIT, || {
            answers_ssh(&address)
        })
        .with_context(|| format!("console: {}", self.console()))
    }

    /// Returns when systemd has no job left to do.
    pub fn wait_booted(&self) -> Result<()> {
        self.sh("systemctl is-system-running --wait").map(drop)
    }
}

fn answers_ssh(address: &SocketAddr) -> bool {
    let limit = Duration::from_millis(500);
    let Ok(mut stream) = TcpStream::connect_timeout(address, limit) else {
        return false;
    };
    let mut banner = [0; 4];
    stream.set_read_timeout(Some(limit)).is_ok()
        && stream.read_exact(&mut banner).is_ok()
        && banner == *b"SSH-"
}

/// Feeds a command its input and collects what it answers.
fn finish(mut command: Command, input: &[u8]) -> Result<ExecOutput> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    let mut stdin = child.stdin.take().context("stdin is piped")?;
    let output = thread::scope(|scope| {
        // A command may end without reading its input; that is its own affair.
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output()
    })?;
    Ok(ExecOutput {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
