//! One server: files, ports, credentials, restarts, pods.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::machine::{Machine, Network, run, wait};

const CONFIG: &str = "cluster-init: true\ntoken: canary\nno-such-key: 1\nnode-label: [team=a]\n";

#[test]
fn single_server() -> Result<()> {
    let network = Network::new(1)?;
    let mut server = network.machine(1)?;
    server.configure(CONFIG)?;
    server.start("server")?;
    server.wait_ready()?;
    ensure!(
        server
            .log()?
            .contains("Unknown flag --no-such-key found in config.yaml, skipping")
    );
    files(&server)?;
    ports_and_credentials(&server)?;
    node(&server)?;
    pods(&server)?;
    restarts(&mut server)
}

/// A server that was told of no cluster: nobody can join it until a start with cluster-init.
#[test]
fn lone_server() -> Result<()> {
    let network = Network::new(3)?;
    let mut server = network.machine(1)?;
    for (config, members) in [
        ("token: canary\n", "400"),
        ("token: canary\ndisable-agent: true\n", "400"),
        ("token: canary\ncluster-init: true\n", "200"),
        ("token: canary\n", "200"),
    ] {
        server.configure(config)?;
        server.start("server")?;
        server.wait_ready()?;
        let status = server.http("/db/info", &["-u", "server:canary"])?;
        ensure!(status == members, "{config}: {status}, not {members}");
        server.stop()?;
    }
    ensure!(server.data("server/db/state.db.migrated").exists());
    Ok(())
}

fn mode(path: &Path) -> Result<u32> {
    Ok(fs::metadata(path)
        .with_context(|| path.display().to_string())?
        .permissions()
        .mode()
        & 0o777)
}

fn files(server: &Machine) -> Result<()> {
    for (path, expected) in [
        ("server/token", 0o600),
        ("server/cred/passwd", 0o600),
        ("server/tls/server-ca.crt", 0o644),
        ("server/tls/server-ca.key", 0o600),
        ("server/tls/etcd/client.key", 0o600),
        ("server/db/etcd", 0o700),
        ("agent/client-kubelet.key", 0o600),
        ("agent/client-kubelet.crt", 0o600),
        ("agent/client-ca.crt", 0o600),
        ("agent", 0o755),
        ("server/tls/etcd", 0o755),
    ] {
        // The node part writes its files after READY.
        let found = wait(path, || Ok(mode(&server.data(path)).ok()))?;
        ensure!(found == expected, "{path} has mode {found:o}");
    }
    ensure!(mode(&server.etc("k3s/k3s.yaml"))? == 0o600);
    let token = fs::read_to_string(server.data("server/token"))?;
    ensure!(
        token.starts_with("K10") && token.ends_with("::server:canary\n"),
        "{token}"
    );
    ensure!(server.data("server/node-token").is_symlink());
    let member = fs::read_to_string(server.data("server/db/etcd/name"))?;
    ensure!(
        member.starts_with("m1-") && member.len() == "m1-".len() + 8,
        "{member:?}"
    );
    Ok(())
}

fn ports_and_credentials(server: &Machine) -> Result<()> {
    let listening = server.inside(&["ss", "-ltnH"])?;
    for port in [
        "127.0.0.1:2379",
        "127.0.0.1:2380",
        "127.0.0.1:2381",
        "127.0.0.1:2382",
        "127.0.0.1:6444",
    ] {
        ensure!(listening.contains(port), "{port} is not open:\n{listening}");
    }
    ensure!(
        listening.contains(&format!("{}:2379", server.address)),
        "{listening}"
    );
    let ca = server.data("server/tls");
    let foreign = [
        "--cert".to_owned(),
        ca.join("etcd/client.crt").display().to_string(),
        "--key".to_owned(),
        ca.join("etcd/client.key").display().to_string(),
    ];
    let foreign: Vec<&str> = foreign.iter().map(String::as_str).collect();
    let admin =
        ["crt", "key"].map(|end| ca.join(format!("client-admin.{end}")).display().to_string());
    let admin = ["--cert", admin[0].as_str(), "--key", admin[1].as_str()];
    for (path, more, expected) in [
        ("/ping", &[][..], "200"),
        ("/cacerts", &[], "200"),
        ("/readyz", &[], "401"),
        ("/livez", &[], "401"),
        (
            "/api/v1/nodes",
            &[
                "-H",
                "X-Remote-User: system:admin",
                "-H",
                "X-Remote-Group: system:masters",
            ],
            "401",
        ),
        ("/api/v1/nodes", &foreign, "401"),
        ("/v1-k3s/config", &[], "403"),
        ("/v1-k3s/config", &["-u", "node:wrong"], "401"),
        ("/v1-k3s/config", &["-u", "node:canary"], "200"),
        ("/v1-k3s/config", &["-u", "server:canary"], "403"),
        ("/v1-k3s/config", &admin, "403"),
        ("/v1-k3s/server-bootstrap", &["-u", "node:canary"], "403"),
        ("/v1-k3s/server-bootstrap", &["-u", "server:canary"], "200"),
        ("/db/info", &["-u", "server:canary"], "200"),
    ] {
        let status = server.http(path, more)?;
        ensure!(
            status == expected,
            "{path} {more:?}: {status}, not {expected}"
        );
    }
    let version = server.kubectl(&["version", "-o", "json"])?;
    ensure!(version.contains("v1.36.3+k3s1"), "{version}");
    Ok(())
}

fn node(server: &Machine) -> Result<()> {
    wait("the node", || {
        server
            .kubectl(&["wait", "--for=condition=Ready", "node/m1", "--timeout=1s"])
            .map(Some)
    })?;
    ensure!(mode(&server.etc("node/password"))? == 0o600);
    let node = server.kubectl(&["get", "node", "m1", "-o", "yaml"])?;
    for text in [
        "team: a",
        "kubeletVersion: v1.36.3+k3s1",
        "k3s.io/node-config-hash",
        "node-role.kubernetes.io/control-plane",
    ] {
        ensure!(node.contains(text), "{text} is missing:\n{node}");
    }
    ensure!(
        !node.contains("canary"),
        "the token shows on the node:\n{node}"
    );
    Ok(())
}

fn pods(server: &Machine) -> Result<()> {
    server.kubectl(&["create", "deployment", "web", "--image=web", "--replicas=3"])?;
    server.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
    server.kubectl(&["create", "job", "once", "--image=job"])?;
    server.kubectl(&[
        "wait",
        "--for=condition=Complete",
        "job/once",
        "--timeout=60s",
    ])?;
    server.kubectl(&["create", "deployment", "broken", "--image=missing/web"])?;
    wait("ImagePullBackOff", || {
        let pods = server.kubectl(&["get", "pods", "-l", "app=broken"])?;
        Ok(pods.contains("ImagePullBackOff").then_some(()))
    })?;
    server.kubectl(&["delete", "deployment", "broken", "--wait=true"])?;
    wait("pods to go", || {
        let pods = server.kubectl(&["get", "pods", "-l", "app=broken", "-o", "name"])?;
        Ok(pods.trim().is_empty().then_some(()))
    })
}

fn restarts(server: &mut Machine) -> Result<()> {
    let arguments = "jsonpath={.metadata.annotations.k3s\\.io/node-args}";
    server.configure(&format!(
        "{CONFIG}tls-san: [late.example]\nnode-label+: [zone=b]\n"
    ))?;
    let before = server.kubectl(&["get", "node", "m1", "-o", arguments])?;
    ensure!(
        !before.contains("late.example"),
        "a running process keeps its configuration: {before}"
    );
    let certificate = fs::read(server.data("server/tls/serving-kube-apiserver.crt"))?;
    server.stop()?;
    ensure!(server.processes()?.is_empty(), "parts outlived a stop");

    server.start("server")?;
    server.wait_ready()?;
    wait("new arguments on the node", || {
        let after = server.kubectl(&["get", "node", "m1", "-o", arguments])?;
        Ok(after.contains("late.example").then_some(()))
    })?;
    ensure!(
        certificate != fs::read(server.data("server/tls/serving-kube-apiserver.crt"))?,
        "names changed"
    );

    server.signal("-KILL")?;
    server.wait_end()?;
    wait("parts to die with their parent", || {
        Ok(server.processes()?.is_empty().then_some(()))
    })?;
    server.start("server")?;
    server.wait_ready()?;
    server.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
    server.stop()?;

    server.configure("cluster-init: true\ntoken: canary\nnode-label: [kubernetes.io/role=x]\n")?;
    server.start("server")?;
    server.wait_ready()?;
    ensure!(server.wait_end()?.code() == Some(0), "a forbidden label");
    ensure!(
        server
            .log()?
            .contains("failed to validate kubelet flags: unknown 'kubernetes.io'")
    );

    server.configure("cluster-init: true\ntoken: other\n")?;
    server.start("server")?;
    ensure!(server.wait_end()?.code() == Some(1), "another token");
    ensure!(
        server
            .log()?
            .contains("bootstrap data already found and encrypted with different token")
    );
    server.configure("cluster-init: maybe\n")?;
    server.start("server")?;
    ensure!(server.wait_end()?.code() == Some(1), "a wrong type");
    run(
        "grep",
        &["-q", "level=fatal", &server.etc("../log").to_string_lossy()],
    )
    .map(drop)
}
