//! `k3s server`: the order of a start, as in cli/server/server.go and daemons/control/server.go (checked).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::mpsc;

use crate::certs::Identity;
use crate::ending::Ending;
use crate::etcd::client::Client;
use crate::etcd::member::{self, Start};
use crate::join::{self, API_WAIT};
use crate::parts::{Ended, Parts};
use crate::preparation::{self, Origin, Prepared};
use crate::settings::Settings;
use crate::supervisor::{self, State};
use crate::{control_plane, kubeconfig, layout, log, members, server_node};

/// How often parts are asked whether they answer; k3s logs its failures every 5 s.
const POLL: Duration = Duration::from_millis(100);
const COMPLAIN: Duration = Duration::from_secs(5);
/// A joining member serves within half a second, unless its announcement was lost.
const JOIN_SERVES: Duration = Duration::from_millis(2500);

/// Runs a server until it ends.
pub(crate) async fn run(settings: Settings) -> Ending {
    let (parts, ended) = Parts::new();
    let ending = tokio::select! {
        ending = start(&settings, &parts, ended) => ending,
        () = crate::asked_to_end() => Ending::Asked,
    };
    parts.stop().await;
    ending
}

async fn start(
    settings: &Settings,
    parts: &Parts,
    ended: mpsc::UnboundedReceiver<Ended>,
) -> Ending {
    let prepared = match preparation::prepare(settings).await {
        Ok(prepared) => prepared,
        Err(error) => return Ending::Fatal(format!("preparing server: {error:#}")),
    };
    let (stop, mut stopped) = mpsc::unbounded_channel();
    let state = Rc::clone(&prepared.state);
    tokio::select! {
        ending = bring_up(settings, parts, prepared, stop) => ending,
        ending = first_end(ended, &state) => ending,
        Some(ending) = stopped.recv() => ending,
    }
}

/// Opens the port, starts the parts in order, says READY, and goes on until something ends.
async fn bring_up(
    settings: &Settings,
    parts: &Parts,
    prepared: Prepared,
    stop: mpsc::UnboundedSender<Ending>,
) -> Ending {
    let steps = async {
        open_port(settings, &prepared).await?;
        let name = start_etcd(settings, parts, &prepared).await?;
        start_control_plane(settings, parts, &prepared).await?;
        if !settings.switch("disable-agent") {
            let state = Rc::clone(&prepared.state);
            let member = state.embeds_etcd.then_some(name);
            server_node::start(state, settings, member, stop).await?;
        }
        Ok::<_, Ending>(())
    };
    match steps.await {
        Ok(()) => std::future::pending().await,
        Err(ending) => ending,
    }
}

fn shutdown(error: anyhow::Error) -> Ending {
    Ending::Shutdown(format!("{error:#}"))
}

async fn open_port(settings: &Settings, prepared: &Prepared) -> Result<(), Ending> {
    let host = settings
        .text("bind-address")
        .and_then(|address| address.parse().ok())
        .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let address = SocketAddr::new(host, settings.number("https-listen-port", 6443));
    supervisor::serve(Rc::clone(&prepared.state), address)
        .await
        .map_err(Ending::fatal)?;
    kubeconfig::write_admin(&prepared.layout, settings).map_err(Ending::fatal)
}

/// Starts the own member, joining first where it must, and waits until it votes. Gives its name.
async fn start_etcd(
    settings: &Settings,
    parts: &Parts,
    prepared: &Prepared,
) -> Result<String, Ending> {
    let Prepared {
        layout,
        identity,
        origin,
        state,
    } = prepared;
    let name = member::name(layout, &identity.node_name).map_err(Ending::fatal)?;
    let how = match origin {
        Origin::New => Start::New,
        Origin::Restart => Start::Existing,
        Origin::Joining(remote) => join::membership(remote, layout, identity, &name).await?,
    };
    let start =
        |how: &Start| member::start(layout, settings, identity, &name, how).map_err(shutdown);
    parts.add(start(&how)?);
    let client = Client::local(layout).map_err(shutdown)?;
    if matches!(how, Start::Joining(_)) && !serves_soon(&client).await {
        log::info("The etcd member does not serve yet, starting it again");
        parts.stop_one("etcd").await;
        let how = if member::has_data(layout) {
            Start::Existing
        } else {
            how
        };
        parts.add(start(&how)?);
    }
    // Running before the wait, because the leader's process must promote whoever waits.
    tokio::task::spawn_local(members::look_after(Rc::clone(state), client.clone()));
    within_api_wait(etcd_ready(&client, &name, identity)).await?;
    log::info("Connection to etcd is ready");
    Ok(name)
}

/// Starts kube-apiserver, says READY when it answers, then starts the others.
async fn start_control_plane(
    settings: &Settings,
    parts: &Parts,
    prepared: &Prepared,
) -> Result<(), Ending> {
    let Prepared {
        layout,
        identity,
        state,
        ..
    } = prepared;
    parts.add(control_plane::start_apiserver(layout, settings, identity).map_err(shutdown)?);
    within_api_wait(async {
        while !state.api.ready().await {
            tokio::time::sleep(POLL).await;
        }
    })
    .await?;
    state.api_ready.set(true);
    log::info("Kube API server is now running");
    log::info("k3s is up and running");
    crate::say_ready();
    if !settings.switch("disable-controller-manager") {
        parts.add(control_plane::start_controller_manager(layout, settings).map_err(shutdown)?);
    }
    if !settings.switch("disable-scheduler") {
        parts.add(control_plane::start_scheduler(layout, settings).map_err(shutdown)?);
    }
    Ok(())
}

/// etcd 3.6 sends a joining member a snapshot; installing it cuts the streams to its peers, and with them sometimes the
/// first announcement of the member's own name, without which it serves nobody. etcd repeats that only after 15 s
/// (5 s and two election timeouts); a second start does it at once.
async fn serves_soon(client: &Client) -> bool {
    let wait = async {
        while client.status().await.is_err() {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(JOIN_SERVES, wait).await.is_ok()
}

async fn within_api_wait<T>(wait: impl Future<Output = T>) -> Result<T, Ending> {
    tokio::time::timeout(API_WAIT, wait)
        .await
        .map_err(|_| Ending::Shutdown("failed to wait for API server to become ready".to_owned()))
}

/// Waits until the own member votes, knows a leader, and is listed under its own name and address.
async fn etcd_ready(client: &Client, name: &str, identity: &Identity) {
    let mut complained = tokio::time::Instant::now();
    loop {
        let Err(error) = test_etcd(client, name, identity).await else {
            return;
        };
        if complained.elapsed() > COMPLAIN {
            log::error(format!("Failed to test etcd connection: {error:#}"));
            complained = tokio::time::Instant::now();
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn test_etcd(client: &Client, name: &str, identity: &Identity) -> Result<()> {
    let status = client.status().await?;
    if status.learner {
        anyhow::bail!("this server has not yet been promoted from learner to voting member");
    }
    if status.leader == 0 {
        anyhow::bail!("etcdserver: no leader");
    }
    let members = client.members().await?;
    let expected = format!("{name}={}", member::peer_url(identity.node_ip));
    let found: Vec<String> = members
        .iter()
        .flat_map(|member| {
            member
                .peer_urls
                .iter()
                .map(|url| format!("{}={url}", member.name))
        })
        .collect();
    if !found.contains(&expected) {
        anyhow::bail!(
            "this server is not a member of the etcd cluster. Found {found:?}, expect: {expected}"
        );
    }
    Ok(())
}

/// Waits for the first part that ends by itself. A removed member's etcd is no reason to end.
async fn first_end(mut ended: mpsc::UnboundedReceiver<Ended>, state: &State) -> Ending {
    while let Some(part) = ended.recv().await {
        if part.name == "etcd" && was_removed(state).await {
            log::error(
                "This node has been removed from the cluster - please restart k3s to rejoin the cluster",
            );
            let tombstone = state.layout.etcd().join("tombstone");
            if let Err(error) = layout::write(&tombstone, b"", 0o600) {
                log::error(format!("{error:#}"));
            }
            continue;
        }
        return part.ending();
    }
    std::future::pending().await
}

/// Whether the other members no longer list this one. Without an answer it was not removed.
async fn was_removed(state: &State) -> bool {
    let Ok(Some(name)) = layout::read_if_there(&state.layout.etcd().join("name")) else {
        return false;
    };
    let own = format!("{}:6443", state.identity.node_ip);
    let others: Vec<String> = state
        .servers
        .borrow()
        .iter()
        .filter(|server| **server != own)
        .filter_map(|server| server.strip_suffix(":6443"))
        .map(|host| format!("https://{host}:2379"))
        .collect();
    let Ok(client) = Client::new(&state.layout, others) else {
        return false;
    };
    match client.members().await {
        Ok(members) => members.iter().all(|member| member.name != name.trim()),
        Err(_) => false,
    }
}

/// Whether this machine has ever run a server: its `k3s.yaml` is the sign that the command line uses.
pub(crate) fn kubeconfig_path() -> &'static Path {
    Path::new("/etc/rancher/k3s/k3s.yaml")
}
