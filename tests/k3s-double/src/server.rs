//! `k3s server`: the order of a start, as in cli/server/server.go and daemons/control/server.go (checked).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use tokio::sync::mpsc;

use crate::certs::{self, Identity};
use crate::critical::Critical;
use crate::ending::Ending;
use crate::etcd::client::Client;
use crate::etcd::member::{self, Start};
use crate::join::{self, API_WAIT};
use crate::layout::{self, Layout};
use crate::parts::{Ended, Parts};
use crate::passwd::Passwords;
use crate::remote::{Credential, Remote, User};
use crate::settings::Settings;
use crate::supervisor::{self, State};
use crate::token::{self, Token};
use crate::{control_plane, kubeconfig, log, machine, members, server_node};

/// How often parts are asked whether they answer; k3s logs its failures every 5 s.
const POLL: Duration = Duration::from_millis(100);
const COMPLAIN: Duration = Duration::from_secs(5);
/// A joining member serves within half a second, unless its announcement was lost.
const JOIN_SERVES: Duration = Duration::from_millis(2500);
/// Moved-aside data directories that are kept.
const BACKUPS_KEPT: usize = 5;

/// Where this start comes from.
#[derive(Debug)]
enum Origin {
    New,
    Restart,
    Joining(Box<Remote>),
}

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

async fn start(settings: &Settings, parts: &Parts, ended: mpsc::UnboundedReceiver<Ended>) -> Ending {
    let prepared = match prepare(settings).await {
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

struct Prepared {
    layout: Layout,
    identity: Identity,
    origin: Origin,
    state: Rc<State>,
}

/// Everything before the port opens: tokens, keys, certificates. An error here is fatal.
async fn prepare(settings: &Settings) -> Result<Prepared> {
    let layout = Layout::new(settings.data_dir());
    let identity = machine::identity(settings)?;
    let given = settings.token().map_err(anyhow::Error::msg)?;
    let given = given.as_deref().map(Token::for_server).transpose().map_err(anyhow::Error::msg)?;
    let joins = settings.text("server").is_some() && given.is_some();
    let embeds_etcd = member::has_data(&layout) || joins || settings.switch("cluster-init");
    put_tombstone_aside(&layout, joins)?;
    layout.make_server()?;
    let critical = Critical::of(settings);

    let origin = origin(settings, &layout, given.as_ref(), &critical).await?;
    certs::ensure_authorities(&layout)?;
    let passwords = passwords(settings, &layout, given)?;
    if !layout.cred("ipsec.psk").exists() {
        layout::write(&layout.cred("ipsec.psk"), token::random_hex(48)?.as_bytes(), 0o600)?;
    }
    certs::ensure_leaves(&layout, settings, &identity)?;
    for (client, file) in [("client-admin", "admin.kubeconfig"), ("client-supervisor", "supervisor.kubeconfig")] {
        kubeconfig::write(&layout, client, control_plane::APISERVER, &layout.cred(file), 0o600)?;
    }
    let state = Rc::new(State::new(&layout, &identity, &passwords, critical, embeds_etcd)?);
    passwords.write_tokens(&layout)?;
    Ok(Prepared { layout, identity, origin, state })
}

async fn origin(settings: &Settings, layout: &Layout, given: Option<&Token>, critical: &Critical) -> Result<Origin> {
    let remote = settings.text("server").zip(given);
    if member::has_data(layout) {
        log::info("Managed etcd cluster bootstrap already complete and initialized");
        if let Some((url, token)) = remote
            && let Err(error) = reconcile(url, token).await
        {
            log::warn(format!("Unable to reconcile with remote datastore: {error:#}"));
        }
        return Ok(Origin::Restart);
    }
    let Some((url, token)) = remote else {
        log::info("Managed etcd cluster initializing");
        return Ok(Origin::New);
    };
    log::info("Managed etcd cluster not yet initialized");
    let join = async {
        let remote = Remote::connect(url, token).await?;
        join::bootstrap(&remote, layout, critical).await?;
        Ok::<_, anyhow::Error>(remote)
    };
    Ok(Origin::Joining(Box::new(join.await.context("failed to bootstrap cluster data")?)))
}

async fn reconcile(url: &str, token: &Token) -> Result<()> {
    let ask = async {
        let remote = Remote::connect(url, token).await?;
        remote.get("/v1-k3s/server-bootstrap", &Credential::Password(User::Server), &[]).await
    };
    tokio::time::timeout(Duration::from_secs(15), ask).await.context("timed out")?.map(drop)
}

/// The passwords of this start; those on disk must fit the token that is given now.
fn passwords(settings: &Settings, layout: &Layout, given: Option<Token>) -> Result<Passwords> {
    let known = Passwords::read(layout)?;
    if let (Some(known), Some(given)) = (&known, &given)
        && known.server != given.password
    {
        anyhow::bail!("bootstrap data already found and encrypted with different token");
    }
    let server = match (known, given) {
        (Some(known), _) => known.server,
        (None, Some(given)) => given.password,
        (None, None) => token::random_hex(16)?,
    };
    let agent = settings.agent_token().map_err(anyhow::Error::msg)?;
    let agent = agent.as_deref().map(Token::parse).transpose().map_err(anyhow::Error::msg)?;
    let passwords = Passwords { node: agent.map_or_else(|| server.clone(), |token| token.password), server };
    passwords.write(layout)?;
    Ok(passwords)
}

/// A removed member leaves a tombstone: its data moves aside and it joins anew, if it knows where.
fn put_tombstone_aside(layout: &Layout, joins: bool) -> Result<()> {
    if !layout.etcd().join("tombstone").exists() {
        return Ok(());
    }
    if !joins {
        anyhow::bail!("tombstone file has been detected but --server is empty");
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let aside = layout.server(&format!("db/etcd-backup-{now}"));
    std::fs::rename(layout.etcd(), &aside).context("move removed etcd data aside")?;
    log::info(format!("Moved the data of the removed etcd member to {}", aside.display()));
    let mut old: Vec<_> = std::fs::read_dir(layout.server("db"))?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("etcd-backup-")))
        .collect();
    old.sort();
    for path in old.iter().rev().skip(BACKUPS_KEPT) {
        std::fs::remove_dir_all(path)?;
    }
    Ok(())
}

/// Opens the port, starts the parts in order, says READY, and goes on until something ends.
async fn bring_up(
    settings: &Settings,
    parts: &Parts,
    prepared: Prepared,
    stop: mpsc::UnboundedSender<Ending>,
) -> Ending {
    let Prepared { layout, identity, origin, state } = prepared;
    let step = async {
        let host = settings.text("bind-address").and_then(|address| address.parse().ok());
        let host = host.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let address = SocketAddr::new(host, settings.number("https-listen-port", 6443));
        supervisor::serve(Rc::clone(&state), address).await.map_err(Ending::fatal)?;
        kubeconfig::write_admin(&layout, settings).map_err(Ending::fatal)?;

        let name = member::name(&layout, &identity.node_name).map_err(Ending::fatal)?;
        let how = match &origin {
            Origin::New => Start::New,
            Origin::Restart => Start::Existing,
            Origin::Joining(remote) => join::membership(remote, &layout, &identity, &name).await?,
        };
        let shutdown = |error: anyhow::Error| Ending::Shutdown(format!("{error:#}"));
        parts.add(member::start(&layout, settings, &identity, &name, &how).map_err(shutdown)?);
        let client = Client::local(&layout).map_err(shutdown)?;
        if matches!(how, Start::Joining(_)) && !serves_soon(&client).await {
            log::info("The etcd member does not serve yet, starting it again");
            parts.stop_one("etcd").await;
            let how = if member::has_data(&layout) { Start::Existing } else { how };
            parts.add(member::start(&layout, settings, &identity, &name, &how).map_err(shutdown)?);
        }
        // Running before the wait, because the leader's process must promote whoever waits.
        tokio::task::spawn_local(members::look_after(Rc::clone(&state), client.clone()));

        within_api_wait(etcd_ready(&client, &name, &identity)).await?;
        log::info("Connection to etcd is ready");
        parts.add(control_plane::start_apiserver(&layout, settings, &identity).map_err(shutdown)?);
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
            parts.add(control_plane::start_controller_manager(&layout, settings).map_err(shutdown)?);
        }
        if !settings.switch("disable-scheduler") {
            parts.add(control_plane::start_scheduler(&layout, settings).map_err(shutdown)?);
        }
        if !settings.switch("disable-agent") {
            let member = state.embeds_etcd.then_some(name);
            server_node::start(Rc::clone(&state), settings, member, stop).await?;
        }
        Ok::<_, Ending>(())
    };
    match step.await {
        Ok(()) => std::future::pending().await,
        Err(ending) => ending,
    }
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
        let Err(error) = test_etcd(client, name, identity).await else { return };
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
        .flat_map(|member| member.peer_urls.iter().map(|url| format!("{}={url}", member.name)))
        .collect();
    if !found.contains(&expected) {
        anyhow::bail!("this server is not a member of the etcd cluster. Found {found:?}, expect: {expected}");
    }
    Ok(())
}

/// Waits for the first part that ends by itself. A removed member's etcd is no reason to end.
async fn first_end(mut ended: mpsc::UnboundedReceiver<Ended>, state: &State) -> Ending {
    while let Some(part) = ended.recv().await {
        if part.name == "etcd" && was_removed(state).await {
            log::error("This node has been removed from the cluster - please restart k3s to rejoin the cluster");
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
    let Ok(Some(name)) = layout::read_if_there(&state.layout.etcd().join("name")) else { return false };
    let own = format!("{}:6443", state.identity.node_ip);
    let others: Vec<String> = state
        .servers
        .borrow()
        .iter()
        .filter(|server| **server != own)
        .filter_map(|server| server.strip_suffix(":6443"))
        .map(|host| format!("https://{host}:2379"))
        .collect();
    let Ok(client) = Client::new(&state.layout, others) else { return false };
    match client.members().await {
        Ok(members) => members.iter().all(|member| member.name != name.trim()),
        Err(_) => false,
    }
}

/// Whether this machine has ever run a server: its `k3s.yaml` is the sign that the command line uses.
pub(crate) fn kubeconfig_path() -> &'static Path {
    Path::new("/etc/rancher/k3s/k3s.yaml")
}
