//! A control plane on the test host's loopback: real etcd, real kube-apiserver
//! and, where asked, controller manager, scheduler and kwok. For tests of what
//! talks to an API server and needs no machine.

mod program;
mod users;

use std::{
    fs,
    io::Write,
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

pub use self::{
    program::Program,
    users::{Role, User},
};
use crate::{cache::Cache, keys::rsa_key, run::Run, wait::wait_until};

/// From start to ready: 2–3 s alone on the host.
const READY_LIMIT: Duration = Duration::from_secs(90);
/// Ports are free when they are chosen; another process may take one before it is used.
const START_ATTEMPTS: u32 = 3;
const KWOK_STAGES: &str = include_str!("control/stages.yaml");
/// One line per request, with user, verb, URI and code; no bodies, so no secrets.
const AUDIT_POLICY: &str = r#"{"apiVersion":"audit.k8s.io/v1","kind":"Policy","omitStages":["RequestReceived"],"rules":[{"level":"Metadata"}]}"#;

/// What a test asks for.
#[derive(Debug, Clone)]
pub struct ControlSpec {
    pub users: Vec<User>,
    /// Deployments roll out, garbage is collected, namespaces end.
    pub controllers: bool,
    pub scheduler: bool,
    /// Pods on Nodes with the label `trueup.invalid/kwok` run at once.
    pub kwok: bool,
    /// More arguments for kube-apiserver.
    pub apiserver_args: Vec<String>,
}

impl Default for ControlSpec {
    /// The API alone, with the users `admin`, `trueup` (both all-powerful) and `reader`.
    fn default() -> Self {
        let users = vec![
            User::new("admin", Role::Admin),
            User::new("trueup", Role::Admin),
            User::new("reader", Role::ReadOnly),
        ];
        Self {
            users,
            controllers: false,
            scheduler: false,
            kwok: false,
            apiserver_args: Vec::new(),
        }
    }
}

impl ControlSpec {
    /// Everything, so that workloads become ready; add Nodes by [`ControlPlane::add_node`].
    pub fn full() -> Self {
        Self {
            controllers: true,
            scheduler: true,
            kwok: true,
            ..Self::default()
        }
    }
}

/// A running control plane. Dropping it removes it.
#[derive(Debug)]
pub struct ControlPlane {
    programs: Vec<(&'static str, Program)>,
    spec: ControlSpec,
    server: String,
    dir: PathBuf,
    bin: PathBuf,
    run: Run,
}

impl ControlPlane {
    /// Starts everything and returns when the API is ready and the users can use it.
    pub fn start(spec: ControlSpec) -> Result<Self> {
        let mut last = None;
        for _ in 0..START_ATTEMPTS {
            match Self::start_once(spec.clone()) {
                Err(error) if format!("{error:#}").contains("address already in use") => {
                    last = Some(error)
                }
                done => return done,
            }
        }
        Err(last.context("no attempt was made")?)
    }

    fn start_once(spec: ControlSpec) -> Result<Self> {
        let bin = Cache::locate().bin()?;
        let run = Run::begin()?;
        run.group("control").create()?;
        let dir = run.disks().join("control");
        fs::create_dir_all(&dir)?;
        let [client, peer, api] = free_ports()?;
        let server = format!("https://127.0.0.1:{api}");
        let mut plane = Self {
            programs: Vec::new(),
            spec,
            server,
            dir,
            bin,
            run,
        };

        plane.launch("etcd", plane.etcd_args(client, peer))?;
        plane.prepare_files()?;
        plane.launch("kube-apiserver", plane.apiserver_args(client, api))?;
        let certificate = plane.dir.join("tls/apiserver.crt");
        // It makes its certificate first: once it listens, the file is whole.
        plane.wait("the API server to listen", || {
            TcpStream::connect(("127.0.0.1", api)).is_ok()
        })?;
        for user in &plane.spec.users {
            users::write_kubeconfig(
                &plane.dir,
                user,
                plane.run.id(),
                &plane.server,
                &certificate,
            )?;
        }
        let master = User::new(MASTER, Role::Admin);
        users::write_kubeconfig(
            &plane.dir,
            &master,
            plane.run.id(),
            &plane.server,
            &certificate,
        )?;
        plane.wait_ready()?;
        plane.kubectl_input(&["apply", "-f", "-"], users::READ_ONLY)?;
        plane.launch_controllers()?;
        Ok(plane)
    }

    /// The run's name.
    pub fn id(&self) -> &str {
        self.run.id()
    }

    /// `https://127.0.0.1:PORT`.
    pub fn server_url(&self) -> &str {
        &self.server
    }

    /// The CA that the server's certificate is checked by.
    pub fn ca_path(&self) -> PathBuf {
        self.dir.join("tls/apiserver.crt")
    }

    pub fn kubeconfig_path(&self, user: &str) -> PathBuf {
        self.dir.join(format!("{user}.kubeconfig"))
    }

    /// A user's bearer token.
    pub fn token(&self, user: &str) -> String {
        User::new(user, Role::Nobody).token(self.run.id())
    }

    /// kubectl as the bed itself, whose requests are under another name in the audit log than any user's.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.kubectl_as(MASTER, args, "")
    }

    /// [`ControlPlane::kubectl`] with standard input.
    pub fn kubectl_input(&self, args: &[&str], input: &str) -> Result<String> {
        self.kubectl_as(MASTER, args, input)
    }

    /// kubectl as one of the users.
    pub fn kubectl_as(&self, user: &str, args: &[&str], input: &str) -> Result<String> {
        let mut child = Command::new(self.bin.join("kubectl"))
            .arg(format!(
                "--kubeconfig={}",
                self.kubeconfig_path(user).display()
            ))
            .arg(format!(
                "--cache-dir={}",
                self.dir.join("kubectl-cache").display()
            ))
            .arg("--request-timeout=60s")
            .args(args)
            .env_remove("KUBECONFIG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start kubectl")?;
        // kubectl may end before it has read everything; its own message then says why.
        drop(
            child
                .stdin
                .take()
                .context("stdin is piped")?
                .write_all(input.as_bytes()),
        );
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!(
                "kubectl {}: {}",
                args.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A Node that kwok keeps Ready and runs pods on.
    pub fn add_node(&self, name: &str) -> Result<()> {
        let node = format!(
            r#"{{"apiVersion":"v1","kind":"Node","metadata":{{"name":"{name}","labels":{{"trueup.invalid/kwok":"","kubernetes.io/hostname":"{name}"}}}}}}"#
        );
        self.kubectl_input(&["create", "-f", "-"], &node)?;
        self.kubectl(&[
            "wait",
            "--for=condition=Ready",
            &format!("node/{name}"),
            "--timeout=60s",
        ])
        .map(drop)
    }

    /// Every request that was answered so far, in order, as the audit log has it.
    pub fn audit_events(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(self.dir.join("audit.log")).unwrap_or_default();
        // The last line may be half written.
        let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
        complete
            .lines()
            .map(|line| Ok(serde_json::from_str(line)?))
            .collect()
    }

    /// `verb URI code` of one user's requests: what a test of "no request but these" compares.
    pub fn audit_lines(&self, user: &str) -> Result<Vec<String>> {
        let of_user = |event: &Value| event["user"]["username"] == user;
        let line = |event: Value| {
            let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            format!(
                "{} {} {}",
                word(&event["verb"]),
                word(&event["requestURI"]),
                event["responseStatus"]["code"]
            )
        };
        Ok(self
            .audit_events()?
            .into_iter()
            .filter(of_user)
            .map(line)
            .collect())
    }

    /// `etcd`, `kube-apiserver`, `kube-controller-manager`, `kube-scheduler` or `kwok`,
    /// to be killed, frozen and started again.
    pub fn program(&self, name: &str) -> &Program {
        let found = self.programs.iter().find(|(known, _)| *known == name);
        found
            .map(|(_, program)| program)
            .unwrap_or_else(|| panic!("{name} was not asked for"))
    }

    /// Returns when the API is ready: after a program was started again.
    pub fn wait_ready(&self) -> Result<()> {
        let mut refusal = String::new();
        self.wait("the API server to be ready", || {
            refusal = self.readiness();
            refusal.is_empty()
        })
        .with_context(|| refusal)
    }

    /// A folder of the test's own that goes with the control plane.
    pub fn scratch(&self) -> Result<PathBuf> {
        let dir = self.dir.join("scratch");
        fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    /// Empty when ready, else what the API server lacks. Asked by curl: kubectl would
    /// cost a fifth of a core at this pace. Anybody may ask (ClusterRole
    /// `system:public-info-viewer`).
    fn readiness(&self) -> String {
        let output = Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--max-time",
                "5",
                "--noproxy",
                "*",
                "--cacert",
            ])
            .arg(self.ca_path())
            .arg(format!("{}/readyz", self.server))
            .stdin(Stdio::null())
            .output();
        match output {
            Ok(output) if output.stdout == b"ok" => String::new(),
            Ok(output) => format!(
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            ),
            Err(error) => format!("cannot start curl: {error}"),
        }
    }

    fn wait(&self, what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
        let mut ended = Ok(());
        wait_until(what, READY_LIMIT, || {
            ended = self
                .programs
                .iter()
                .try_for_each(|(_, program)| program.check());
            ended.is_err() || holds()
        })
        .with_context(|| {
            self.programs
                .last()
                .map(|(_, program)| tail(&program.log()))
                .unwrap_or_default()
        })?;
        ended
    }

    fn launch(&mut self, name: &'static str, args: Vec<String>) -> Result<()> {
        let mut words = vec![self.bin.join(name).display().to_string()];
        words.extend(args);
        let log = self.dir.join(format!("{name}.log"));
        let program = Program::new(
            name,
            words,
            log,
            self.run.group("control"),
            self.run.ledger(),
        );
        program.start()?;
        self.programs.push((name, program));
        Ok(())
    }

    fn prepare_files(&self) -> Result<()> {
        let mut known = self.spec.users.clone();
        known.push(User::new(MASTER, Role::Admin));
        users::write_tokens(&self.dir.join("tokens.csv"), &known, self.run.id())?;
        fs::write(self.dir.join("audit-policy.json"), AUDIT_POLICY)?;
        fs::write(self.dir.join("stages.yaml"), KWOK_STAGES)?;
        rsa_key(&self.dir.join("service-account.key"))
    }

    fn etcd_args(&self, client: u16, peer: u16) -> Vec<String> {
        let (client, peer) = (
            format!("http://127.0.0.1:{client}"),
            format!("http://127.0.0.1:{peer}"),
        );
        vec![
            format!("--data-dir={}", self.dir.join("etcd").display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            // The data goes with the run; the host's disk needs no part in it.
            "--unsafe-no-fsync".to_owned(),
        ]
    }

    fn apiserver_args(&self, etcd: u16, port: u16) -> Vec<String> {
        let file = |name: &str| self.dir.join(name).display().to_string();
        let mut args = vec![
            format!("--etcd-servers=http://127.0.0.1:{etcd}"),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={port}"),
            format!("--cert-dir={}", file("tls")),
            format!("--token-auth-file={}", file("tokens.csv")),
            "--authorization-mode=RBAC".to_owned(),
            format!("--service-account-key-file={}", file("service-account.key")),
            format!(
                "--service-account-signing-key-file={}",
                file("service-account.key")
            ),
            "--service-account-issuer=https://trueup-bed.invalid".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            // It would publish a loopback address as an Endpoint, which the API refuses.
            "--endpoint-reconciler-type=none".to_owned(),
            format!("--audit-policy-file={}", file("audit-policy.json")),
            format!("--audit-log-path={}", file("audit.log")),
            // No rotation: tests count from the first line.
            "--audit-log-maxsize=100000".to_owned(),
        ];
        args.extend(self.spec.apiserver_args.iter().cloned());
        args
    }

    fn launch_controllers(&mut self) -> Result<()> {
        let kubeconfig = format!("--kubeconfig={}", self.kubeconfig_path(MASTER).display());
        if self.spec.controllers {
            let key = self.dir.join("service-account.key");
            let args = [
                kubeconfig.as_str(),
                "--leader-elect=false",
                "--bind-address=127.0.0.1",
                "--secure-port=0",
                "--use-service-account-credentials=false",
                &format!("--service-account-private-key-file={}", key.display()),
                &format!("--root-ca-file={}", self.ca_path().display()),
                "--node-monitor-grace-period=8s",
                "--node-monitor-period=1s",
            ];
            self.launch("kube-controller-manager", args.map(str::to_owned).to_vec())?;
        }
        if self.spec.scheduler {
            let args = [
                kubeconfig.as_str(),
                "--leader-elect=false",
                "--bind-address=127.0.0.1",
                "--secure-port=0",
            ];
            self.launch("kube-scheduler", args.map(str::to_owned).to_vec())?;
        }
        if self.spec.kwok {
            let stages = format!("--config={}", self.dir.join("stages.yaml").display());
            let args = [
                kubeconfig.as_str(),
                &stages,
                "--manage-nodes-with-label-selector=trueup.invalid/kwok",
                "--node-lease-duration-seconds=40",
                "--server-address=127.0.0.1:0",
            ];
            self.launch("kwok", args.map(str::to_owned).to_vec())?;
        }
        Ok(())
    }
}

/// The bed's own user.
const MASTER: &str = "trueup-bed";

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// Three ports that are free now, all held at once so that they differ.
fn free_ports() -> Result<[u16; 3]> {
    let hold = || TcpListener::bind(("127.0.0.1", 0));
    let held = [hold()?, hold()?, hold()?];
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(&held) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}
