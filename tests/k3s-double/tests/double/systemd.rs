//! The double as a systemd unit on real machines, with the settings of k3s' install script.

use anyhow::{Result, ensure};
use tempfile::TempDir;
use trueup_bed::cache::Cache;
use trueup_bed::{Bed, BedSpec, Machine};

use crate::machine::{run, wait};

/// As /install.sh of k3s writes it, less the modprobe lines.
const UNIT: &str = "[Unit]
After=network-online.target
[Service]
Type=notify
KillMode=process
Delegate=yes
TimeoutStartSec=0
Restart=always
RestartSec=5s
EnvironmentFile=-/etc/default/%N
ExecStart=/usr/local/bin/k3s ROLE
[Install]
WantedBy=multi-user.target
";

#[test]
fn units_of_a_server_and_an_agent() -> Result<()> {
    let spec = BedSpec::named(&["s1", "a1"]).bind_ro(Cache::locate().bin()?, "/opt/k8s");
    let bed = Bed::start(spec)?;
    let (server, agent) = (bed.machine("s1"), bed.machine("a1"));
    let join = format!("server: https://{}:6443\n", server.ip());
    install(
        server,
        "k3s",
        "server",
        "cluster-init: true\ntoken: canary\n",
    )?;
    install(
        agent,
        "k3s-agent",
        "agent",
        &format!("{join}token: wrong\n"),
    )?;

    // An agent that is refused never ends: the unit stays activating.
    agent.sh("systemctl enable --quiet k3s-agent; systemctl start --no-block k3s-agent")?;
    server.sh("systemctl enable --quiet k3s; systemctl start k3s")?;
    ensure!(server.sh("curl -sk https://127.0.0.1:6443/ping")? == "pong");
    ensure!(
        server
            .sh("k3s --version")?
            .starts_with("k3s version v1.36.3+k3s1 (")
    );
    wait("the refusal of the agent", || {
        let journal = agent.sh("journalctl -u k3s-agent -o cat")?;
        Ok(journal
            .contains("server is not ready: not authorized")
            .then_some(()))
    })?;
    ensure!(property(agent, "k3s-agent", "ActiveState")? == "activating");
    ensure!(property(agent, "k3s-agent", "NRestarts")? == "0");
    agent.put_file(
        "/etc/rancher/k3s/config.yaml",
        0o600,
        format!("{join}token: canary\n"),
    )?;
    agent.sh("systemctl restart k3s-agent")?;
    wait("two nodes", || {
        let nodes = server.sh("k3s kubectl get nodes --no-headers")?;
        Ok((nodes.matches(" Ready ").count() == 2).then_some(()))
    })?;
    stops_and_cycles(server)?;
    power_cut(server)
}

fn install(machine: &Machine, unit: &str, role: &str, config: &str) -> Result<()> {
    let directory = TempDir::new()?;
    let program = directory.path().join("k3s");
    run(
        env!("CARGO_BIN_EXE_k3s-double"),
        &["stamp", "v1.36.3+k3s1", &program.to_string_lossy()],
    )?;
    machine.put_file("/usr/local/bin/k3s", 0o755, std::fs::read(program)?)?;
    machine.sh("mkdir -p /etc/rancher/k3s")?;
    machine.put_file("/etc/rancher/k3s/config.yaml", 0o600, config)?;
    let path = format!("/etc/systemd/system/{unit}.service");
    machine.put_file(&path, 0o644, UNIT.replace("ROLE", role))?;
    machine.sh("systemctl daemon-reload").map(drop)
}

fn property(machine: &Machine, unit: &str, name: &str) -> Result<String> {
    let value = machine.sh(&format!("systemctl show -p {name} --value {unit}"))?;
    Ok(value.trim().to_owned())
}

fn stops_and_cycles(server: &Machine) -> Result<()> {
    server.sh("systemctl stop k3s")?;
    ensure!(property(server, "k3s", "Result")? == "success");
    let left = server.exec("pgrep -l 'etcd|kube-'")?;
    ensure!(
        left.code == Some(1),
        "parts outlived the unit: {}",
        left.stdout
    );

    server.put_file(
        "/etc/rancher/k3s/config.yaml",
        0o600,
        "cluster-init: true\ntoken: other\n",
    )?;
    server.sh("systemctl start --no-block k3s")?;
    wait("two ends of the unit", || {
        let restarts: u32 = property(server, "k3s", "NRestarts")?.parse()?;
        Ok((restarts >= 2).then_some(()))
    })?;
    let journal = server.sh("journalctl -u k3s -o cat")?;
    ensure!(
        journal.contains("encrypted with different token"),
        "{journal}"
    );
    ensure!(journal.contains("status=1/FAILURE"), "{journal}");
    server.put_file(
        "/etc/rancher/k3s/config.yaml",
        0o600,
        "cluster-init: true\ntoken: canary\n",
    )?;
    server.sh("systemctl restart k3s").map(drop)
}

fn power_cut(server: &Machine) -> Result<()> {
    server.sh("k3s kubectl create configmap written")?;
    server.power_cut()?;
    server.power_on()?;
    wait("the unit to come back by itself", || {
        Ok((property(server, "k3s", "ActiveState")? == "active").then_some(()))
    })?;
    server.sh("k3s kubectl get configmap written")?;
    wait("both nodes again", || {
        let nodes = server.sh("k3s kubectl get nodes --no-headers")?;
        Ok((nodes.matches(" Ready ").count() == 2).then_some(()))
    })
}
