//! Machines for the double: each a network namespace on a bridge of its own, with private /etc/rancher and
//! /var/lib/rancher. Everything of a run carries the number of its process in its name.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

/// Two cores may be shared with other tests: nothing here takes longer unless it hangs.
const PATIENCE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(100);

/// Runs a command and gives what it wrote; a failure carries both streams.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("run {program}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{program} {arguments:?}: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}

/// Waits until `look` gives something.
pub(crate) fn wait<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        let last = match look() {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => String::new(),
            Err(error) => format!("{error:#}"),
        };
        ensure!(Instant::now() < end, "waited in vain for {what}: {last}");
        std::thread::park_timeout(POLL);
    }
}

/// A bridge and its machines. Dropping it ends everything on them.
#[derive(Debug)]
pub(crate) struct Network {
    bridge: String,
    subnet: String,
    directory: TempDir,
    program: PathBuf,
}

impl Network {
    /// A bridge with a subnet of its own, and a stamped release of the double.
    pub(crate) fn new(octet: u8) -> Result<Self> {
        sweep()?;
        let number = std::process::id();
        let (bridge, subnet) = (format!("kd{number}"), format!("10.199.{octet}"));
        for path in ["/etc/rancher", "/var/lib/rancher"] {
            fs::create_dir_all(path)?;
        }
        run("ip", &["link", "add", &bridge, "type", "bridge"])?;
        run(
            "ip",
            &["addr", "add", &format!("{subnet}.254/24"), "dev", &bridge],
        )?;
        run("ip", &["link", "set", &bridge, "up"])?;
        let directory = tempfile::tempdir()?;
        let program = directory.path().join("k3s");
        run(
            env!("CARGO_BIN_EXE_k3s-double"),
            &["stamp", "v1.36.3+k3s1", &program.to_string_lossy()],
        )?;
        Ok(Self {
            bridge,
            subnet,
            directory,
            program,
        })
    }

    /// A new machine `m<index>` with the address `.index`.
    pub(crate) fn machine(&self, index: u8) -> Result<Machine> {
        let (name, address) = (format!("m{index}"), format!("{}.{index}", self.subnet));
        let namespace = format!("{}-{name}", self.bridge);
        let link = format!("{}v{index}", self.bridge);
        run("ip", &["netns", "add", &namespace])?;
        run(
            "ip",
            &[
                "link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &namespace,
            ],
        )?;
        run("ip", &["link", "set", &link, "master", &self.bridge, "up"])?;
        for arguments in [
            &["link", "set", "lo", "up"][..],
            &["addr", "add", &format!("{address}/24"), "dev", "eth0"],
            &["link", "set", "eth0", "up"],
            &[
                "route",
                "add",
                "default",
                "via",
                &format!("{}.254", self.subnet),
            ],
        ] {
            run("ip", &[&["-n", &namespace], arguments].concat())?;
        }
        let root = self.directory.path().join(&name);
        fs::create_dir_all(root.join("etc/k3s"))?;
        fs::create_dir_all(root.join("var"))?;
        Ok(Machine {
            name,
            address,
            namespace,
            link,
            root,
            program: self.program.clone(),
            running: None,
        })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        // What is left over is swept at the next start.
        drop(remove(&self.bridge));
    }
}

fn remove(bridge: &str) -> Result<()> {
    for line in run("ip", &["netns", "list"])?.lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        if name.starts_with(&format!("{bridge}-")) {
            for pid in run("ip", &["netns", "pids", name])?.split_whitespace() {
                drop(run("kill", &["-9", pid]));
            }
            run("ip", &["netns", "del", name])?;
        }
    }
    // Connections to a machine without power keep its namespace, and with that its link, for minutes.
    for line in run("ip", &["-o", "link", "show", "master", bridge])?.lines() {
        let name = line.split([':', '@']).nth(1).unwrap_or_default().trim();
        run("ip", &["link", "del", name])?;
    }
    run("ip", &["link", "del", bridge]).map(drop)
}

/// Removes what runs of dead processes left.
fn sweep() -> Result<()> {
    for line in run("ip", &["-o", "link", "show", "type", "bridge"])?.lines() {
        let name = line.split([':', '@']).nth(1).unwrap_or_default().trim();
        let number = name
            .strip_prefix("kd")
            .and_then(|number| number.parse::<u32>().ok());
        if number.is_some_and(|number| !Path::new(&format!("/proc/{number}")).exists()) {
            // Another run may be sweeping the same.
            drop(remove(name));
        }
    }
    Ok(())
}

#[derive(Debug)]
struct Running {
    child: Child,
    notify: UnixDatagram,
    ready: bool,
    log: PathBuf,
}

/// One machine.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) address: String,
    namespace: String,
    link: String,
    root: PathBuf,
    program: PathBuf,
    running: Option<Running>,
}

impl Machine {
    /// Writes config.yaml.
    pub(crate) fn configure(&self, text: &str) -> Result<()> {
        fs::write(self.root.join("etc/k3s/config.yaml"), text).context("write config.yaml")
    }

    /// A path of the machine's data directory.
    pub(crate) fn data(&self, path: &str) -> PathBuf {
        self.root.join("var/k3s").join(path)
    }

    /// A path under the machine's /etc/rancher.
    pub(crate) fn etc(&self, path: &str) -> PathBuf {
        self.root.join("etc").join(path)
    }

    /// Starts `k3s <role>` as systemd would, with a notify socket.
    pub(crate) fn start(&mut self, role: &str) -> Result<()> {
        let socket = self.root.join("notify");
        drop(fs::remove_file(&socket));
        let notify = UnixDatagram::bind(&socket)?;
        notify.set_nonblocking(true)?;
        let log = self.root.join("log");
        let (out, err) = (
            fs::File::create(&log)?,
            fs::File::options().append(true).open(&log)?,
        );
        let root = self.root.display();
        let script = format!(
            "hostname {} && mount --bind {root}/etc /etc/rancher && mount --bind {root}/var /var/lib/rancher && \
             exec {} {role}",
            self.name,
            self.program.display()
        );
        let child = Command::new("ip")
            .args([
                "netns",
                "exec",
                &self.namespace,
                "unshare",
                "-m",
                "-u",
                "--propagation",
                "private",
            ])
            .args(["bash", "-c", &script])
            .env("NOTIFY_SOCKET", &socket)
            .env("DOUBLE_BIN_DIR", binaries()?)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()?;
        self.running = Some(Running {
            child,
            notify,
            ready: false,
            log,
        });
        Ok(())
    }

    fn running(&mut self) -> Result<&mut Running> {
        self.running.as_mut().context("not started")
    }

    /// Whether READY=1 came.
    pub(crate) fn is_ready(&mut self) -> Result<bool> {
        let running = self.running()?;
        let mut buffer = [0; 256];
        while let Ok(length) = running.notify.recv(&mut buffer) {
            let text =
                String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
            running.ready |= text.lines().any(|line| line == "READY=1");
        }
        Ok(running.ready)
    }

    /// Waits for READY; an end before that is an error.
    pub(crate) fn wait_ready(&mut self) -> Result<()> {
        let name = self.name.clone();
        wait(&format!("READY of {name}"), || {
            if self.is_ready()? {
                return Ok(Some(()));
            }
            if let Some(status) = self.running()?.child.try_wait()? {
                return Ok(Some(bail_with(&name, status, &self.log()?)?));
            }
            Ok(None)
        })
        .with_context(|| self.last_lines())
    }

    /// Waits for its end.
    pub(crate) fn wait_end(&mut self) -> Result<ExitStatus> {
        let status = wait(&format!("end of {}", self.name), || {
            Ok(self.running()?.child.try_wait()?)
        })?;
        Ok(status)
    }

    /// What it wrote since its start.
    pub(crate) fn log(&self) -> Result<String> {
        let running = self.running.as_ref().context("not started")?;
        Ok(String::from_utf8_lossy(&fs::read(&running.log)?).into_owned())
    }

    fn last_lines(&self) -> String {
        let log = self.log().unwrap_or_default();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("level=")).collect();
        lines
            .iter()
            .rev()
            .take(12)
            .rev()
            .copied()
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// Waits until the log has a text that many times.
    pub(crate) fn wait_log(&self, text: &str, times: usize) -> Result<()> {
        wait(&format!("{text:?} in the log of {}", self.name), || {
            Ok((self.log()?.matches(text).count() >= times).then_some(()))
        })
        .with_context(|| self.last_lines())
    }

    /// Sends a signal to the double itself, by its process id.
    pub(crate) fn signal(&mut self, signal: &str) -> Result<()> {
        let pid = self.running()?.child.id().to_string();
        run("kill", &[signal, &pid]).map(drop)
    }

    /// Stops it as systemd would and checks exit code 0.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.signal("-TERM")?;
        let status = self.wait_end()?;
        ensure!(
            status.success(),
            "{} ended with {status} ({:?})",
            self.name,
            status.signal()
        );
        Ok(())
    }

    /// Takes the power: no link, no process, no goodbye.
    pub(crate) fn power_cut(&mut self) -> Result<()> {
        run("ip", &["link", "set", &self.link, "down"])?;
        for pid in self.processes()? {
            drop(run("kill", &["-9", &pid]));
        }
        self.wait_end().map(drop)
    }

    /// Gives the link back.
    pub(crate) fn power_on(&self) -> Result<()> {
        run("ip", &["link", "set", &self.link, "up"]).map(drop)
    }

    /// Ids of all processes on the machine.
    pub(crate) fn processes(&self) -> Result<Vec<String>> {
        Ok(run("ip", &["netns", "pids", &self.namespace])?
            .split_whitespace()
            .map(str::to_owned)
            .collect())
    }

    /// Runs a command in the machine's network.
    pub(crate) fn inside(&self, arguments: &[&str]) -> Result<String> {
        run(
            "ip",
            &[&["netns", "exec", &self.namespace], arguments].concat(),
        )
    }

    /// Asks the machine's own API server.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let program = format!("{}/kubectl", binaries()?);
        let config = format!("--kubeconfig={}", self.etc("k3s/k3s.yaml").display());
        self.inside(
            &[
                &[program.as_str(), &config, "--request-timeout=10s"],
                arguments,
            ]
            .concat(),
        )
    }

    /// The HTTP status of a path on 6443 without credentials, or with more arguments for curl.
    pub(crate) fn http(&self, path: &str, more: &[&str]) -> Result<String> {
        let url = format!("https://{}:6443{path}", self.address);
        run(
            "curl",
            &[
                &["-sk", "-o", "/dev/null", "-w", "%{http_code}", &url],
                more,
            ]
            .concat(),
        )
    }
}

fn bail_with(name: &str, status: ExitStatus, log: &str) -> Result<()> {
    let last: Vec<&str> = log.lines().rev().take(5).collect();
    bail!("{name} ended with {status} before READY: {last:?}")
}

fn binaries() -> Result<String> {
    Ok(trueup_bed::cache::Cache::locate()
        .bin()?
        .display()
        .to_string())
}
