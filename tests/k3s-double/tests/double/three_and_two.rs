//! Three servers and two agents: joining, refusals, lost machines, a removed member.

use anyhow::{Context as _, Result, ensure};

use crate::machine::{Machine, Network, wait};

struct Cluster {
    servers: Vec<Machine>,
    agents: Vec<Machine>,
    /// A machine for starts that are refused.
    stranger: Machine,
    join: String,
}

#[test]
fn three_and_two() -> Result<()> {
    let network = Network::new(2)?;
    let mut cluster = start(&network)?;
    all_ready(&cluster)?;
    refused_servers(&mut cluster)?;
    refused_agents(&mut cluster)?;
    lost_agent(&mut cluster)?;
    lost_server(&mut cluster)?;
    removed_member(&mut cluster)?;
    removed_while_down(&mut cluster)?;
    no_quorum(&mut cluster)
}

fn start(network: &Network) -> Result<Cluster> {
    let machines = |range: std::ops::RangeInclusive<u8>| {
        range
            .map(|i| network.machine(i))
            .collect::<Result<Vec<_>>>()
    };
    let (mut servers, mut agents, stranger) =
        (machines(1..=3)?, machines(4..=5)?, network.machine(6)?);
    let first = servers.first_mut().context("no server")?;
    first.configure("cluster-init: true\ntoken: canary\n")?;
    first.start("server")?;
    first.wait_ready()?;
    let join = format!("server: https://{}:6443\ntoken: canary\n", first.address);
    for server in servers.iter_mut().skip(1) {
        server.configure(&join)?;
        server.start("server")?;
    }
    for agent in &mut agents {
        agent.configure(&format!(
            "{join}node-label: [pool=b]\nnode-taint: ['dedicated=x:NoSchedule']\n"
        ))?;
        agent.start("agent")?;
    }
    for machine in servers.iter_mut().chain(&mut agents) {
        machine.wait_ready()?;
    }
    Ok(Cluster {
        servers,
        agents,
        stranger,
        join,
    })
}

impl Cluster {
    fn first(&self) -> Result<&Machine> {
        self.servers.first().context("no server")
    }
}

/// The status of one condition of a node, as a server sees it.
fn condition(through: &Machine, node: &str, kind: &str) -> Result<String> {
    let path = format!("jsonpath={{.status.conditions[?(@.type==\"{kind}\")].status}}");
    through.kubectl(&["get", "node", node, "-o", &path])
}

fn annotation(through: &Machine, node: &str, name: &str) -> Result<String> {
    through.kubectl(&[
        "get",
        "node",
        node,
        "-o",
        &format!("jsonpath={{.metadata.annotations.etcd\\.k3s\\.cattle\\.io/{name}}}"),
    ])
}

fn becomes(through: &Machine, node: &str, kind: &str, status: &str) -> Result<()> {
    wait(&format!("{kind}={status} of {node}"), || {
        Ok((condition(through, node, kind)? == status).then_some(()))
    })
}

fn all_ready(cluster: &Cluster) -> Result<()> {
    for through in &cluster.servers {
        for node in ["m1", "m2", "m3", "m4", "m5"] {
            becomes(through, node, "Ready", "True")?;
        }
        for node in ["m1", "m2", "m3"] {
            becomes(through, node, "EtcdIsVoter", "True")?;
        }
    }
    let agent = cluster
        .first()?
        .kubectl(&["get", "node", "m4", "-o", "yaml"])?;
    for text in ["pool: b", "key: dedicated"] {
        ensure!(agent.contains(text), "{text} is missing:\n{agent}");
    }
    Ok(())
}

fn refused_servers(cluster: &mut Cluster) -> Result<()> {
    let url = cluster.join.lines().next().unwrap_or_default().to_owned();
    let hash = format!("K10{}::server:canary", "0".repeat(64));
    let stranger = &mut cluster.stranger;
    for (config, code, message) in [
        (
            format!("{url}\ntoken: wrong\n"),
            1,
            "failed to bootstrap cluster data: not authorized",
        ),
        (
            format!("{url}\ntoken: {hash}\n"),
            1,
            "token CA hash does not match the Cluster CA certificate hash: 000",
        ),
        (
            "server: https://127.0.0.1:1\ntoken: canary\n".to_owned(),
            1,
            "failed to get CA certs: ",
        ),
        (
            format!(
                "{}cluster-cidr: 10.52.0.0/16\nflannel-backend: none\n",
                cluster.join
            ),
            1,
            "critical configuration value mismatch between servers",
        ),
        (
            format!("{url}\ntoken: abcdef.0123456789abcdef\n"),
            1,
            "failed to normalize server token",
        ),
        (
            format!("{}node-name: M2\n", cluster.join),
            0,
            "duplicate node name found",
        ),
    ] {
        stranger.configure(&config)?;
        stranger.start("server")?;
        let status = stranger.wait_end()?;
        let log = stranger.log()?;
        ensure!(
            status.code() == Some(code) && log.contains(message),
            "{config}: {status}\n{log}"
        );
        if message.contains("critical") {
            ensure!(
                log.contains(
                    "critical configuration mismatched: ClusterIPRanges.slice[0].IP.slice[13]"
                ),
                "{log}"
            );
            ensure!(
                log.contains("critical configuration mismatched: flannel-backend"),
                "{log}"
            );
        }
    }
    Ok(())
}

fn refused_agents(cluster: &mut Cluster) -> Result<()> {
    let url = cluster.join.lines().next().unwrap_or_default().to_owned();
    let stranger = &mut cluster.stranger;
    for (config, message) in [
        (
            format!("{url}\ntoken: wrong\n"),
            "server is not ready: not authorized",
        ),
        (
            format!("{url}\ntoken: K10{}::node:canary\n", "0".repeat(64)),
            "token CA hash does not match",
        ),
        (
            format!("{}node-name: m4\n", cluster.join),
            "Node password rejected, duplicate hostname",
        ),
    ] {
        stranger.configure(&config)?;
        stranger.start("agent")?;
        stranger.wait_log(message, 2)?;
        ensure!(!stranger.is_ready()?, "{config}");
        // It never ends by itself; only when it is asked to.
        stranger.stop()?;
    }
    for config in [
        "token: canary\n",
        &format!("{url}\n"),
        &format!("{}cluster-init: true\n", cluster.join),
    ] {
        stranger.configure(config)?;
        stranger.start("agent")?;
        ensure!(stranger.wait_end()?.code() == Some(1), "{config}");
    }
    Ok(())
}

fn lost_agent(cluster: &mut Cluster) -> Result<()> {
    let through = cluster.servers.first().context("no server")?;
    let agent = cluster.agents.first_mut().context("no agent")?;
    agent.power_cut()?;
    becomes(through, "m4", "Ready", "Unknown")?;
    through.kubectl(&["taint", "node", "m4", "dedicated-"])?;
    agent.power_on()?;
    agent.configure(&format!(
        "{}node-label: [pool=c]\nnode-taint: ['dedicated=x:NoSchedule']\n",
        cluster.join
    ))?;
    agent.start("agent")?;
    agent.wait_ready()?;
    becomes(through, "m4", "Ready", "True")?;
    let node = through.kubectl(&["get", "node", "m4", "-o", "yaml"])?;
    ensure!(node.contains("pool: c"), "labels at each start:\n{node}");
    ensure!(
        !node.contains("key: dedicated"),
        "taints only at registration:\n{node}"
    );
    Ok(())
}

fn lost_server(cluster: &mut Cluster) -> Result<()> {
    let (lost, others) = cluster.servers.split_first_mut().context("no server")?;
    let through = others.first().context("no other server")?;
    lost.power_cut()?;
    becomes(through, "m1", "Ready", "Unknown")?;
    wait("a write without the lost server", || {
        through
            .kubectl(&["create", "configmap", "written"])
            .map(Some)
    })?;
    for agent in ["m4", "m5"] {
        becomes(through, agent, "Ready", "True")?;
    }
    lost.power_on()?;
    lost.start("server")?;
    lost.wait_ready()?;
    lost.kubectl(&["get", "configmap", "written"])?;
    becomes(through, "m1", "Ready", "True")
}

fn removed_member(cluster: &mut Cluster) -> Result<()> {
    let (first, others) = cluster.servers.split_first_mut().context("no server")?;
    let removed = others.last_mut().context("no other server")?;
    let name = annotation(first, "m3", "node-name")?;
    first.kubectl(&["annotate", "node", "m3", "etcd.k3s.cattle.io/remove=true"])?;
    wait("removed-node-name", || {
        Ok((annotation(first, "m3", "removed-node-name")? == name).then_some(()))
    })?;
    ensure!(
        annotation(first, "m3", "remove")?.is_empty()
            && annotation(first, "m3", "node-name")?.is_empty()
    );
    wait("a tombstone", || {
        Ok(removed
            .data("server/db/etcd/tombstone")
            .exists()
            .then_some(()))
    })?;

    removed.signal("-KILL")?;
    removed.wait_end()?;
    removed.configure("cluster-init: true\ntoken: canary\n")?;
    removed.start("server")?;
    ensure!(removed.wait_end()?.code() == Some(1));
    ensure!(
        removed
            .log()?
            .contains("tombstone file has been detected but --server is empty"),
        "{}",
        removed.log()?
    );

    removed.configure(&cluster.join)?;
    removed.start("server")?;
    removed.wait_ready()?;
    let again = wait("a new member name", || {
        let again = annotation(first, "m3", "node-name")?;
        Ok((!again.is_empty()).then_some(again))
    })?;
    ensure!(again != name, "a rejoined member has a new name");
    becomes(first, "m3", "EtcdIsVoter", "True")
}

fn removed_while_down(cluster: &mut Cluster) -> Result<()> {
    let (first, others) = cluster.servers.split_first_mut().context("no server")?;
    let removed = others.last_mut().context("no other server")?;
    let name = annotation(first, "m3", "node-name")?;
    removed.power_cut()?;
    let remove = ["annotate", "node", "m3", "etcd.k3s.cattle.io/remove=true"];
    wait("a leader that takes the request", || {
        first.kubectl(&remove).map(Some)
    })?;
    wait("removed-node-name", || {
        Ok((annotation(first, "m3", "removed-node-name")? == name).then_some(()))
    })?;
    removed.power_on()?;
    removed.start("server")?;
    wait("a tombstone", || {
        Ok(removed
            .data("server/db/etcd/tombstone")
            .exists()
            .then_some(()))
    })?;
    ensure!(!removed.is_ready()?, "READY of a removed member");
    removed.stop()?;
    removed.start("server")?;
    removed.wait_ready()?;
    becomes(first, "m3", "EtcdIsVoter", "True")
}

fn no_quorum(cluster: &mut Cluster) -> Result<()> {
    for server in &mut cluster.servers {
        server.power_cut()?;
    }
    let alone = cluster.servers.get_mut(1).context("no second server")?;
    alone.power_on()?;
    alone.start("server")?;
    alone.wait_log("Failed to test etcd connection", 2)?;
    ensure!(!alone.is_ready()?, "READY without a quorum");
    ensure!(alone.http("/readyz", &[])? == "503");
    let other = cluster.servers.get_mut(2).context("no third server")?;
    other.power_on()?;
    other.start("server")?;
    other.wait_ready()?;
    cluster
        .servers
        .get_mut(1)
        .context("no second server")?
        .wait_ready()
}
