//! `k3s agent`: waits for its servers for ever, then keeps a Node (agent/run.go, agent/config/config.go, checked).

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::balancer::Balancer;
use crate::certs::Identity;
use crate::ending::Ending;
use crate::kube::Api;
use crate::layout::{self, Layout};
use crate::node::{self, Registration};
use crate::pods::Runner;
use crate::remote::{Credential, Remote, User};
use crate::settings::Settings;
use crate::token::Token;
use crate::{log, machine, node_password, server_node};

/// Between two looks at an unreachable cluster.
const RETRY_CONNECT: Duration = Duration::from_secs(2);
/// Between two requests for configuration (5 to 10 s in k3s).
const RETRY_CONFIG: Duration = Duration::from_secs(5);
const RETRY_API: Duration = Duration::from_millis(500);
/// Between two looks at the list of servers.
const SERVERS: Duration = Duration::from_secs(5);

/// Runs an agent until it is asked to end.
pub(crate) async fn run(settings: Settings) -> Ending {
    tokio::select! {
        ending = start(&settings) => ending,
        () = crate::asked_to_end() => Ending::Asked,
    }
}

async fn start(settings: &Settings) -> Ending {
    let layout = Layout::new(settings.data_dir());
    let token = match settings.token() {
        Ok(token) => token,
        Err(error) => return Ending::Fatal(error),
    };
    let has_certificate = layout.agent("client-kubelet.crt").exists();
    if token.is_none() && !has_certificate {
        return Ending::Fatal("--token is required".to_owned());
    }
    let Some(url) = settings.text("server") else {
        return Ending::Fatal("--server is required".to_owned());
    };
    // With a certificate of an earlier start alone, the CA is taken on trust of the load balancer's target.
    let token = match Token::parse(token.as_deref().unwrap_or("-")) {
        Ok(token) => token,
        Err(error) => return Ending::Fatal(error),
    };
    match serve(settings, &layout, url, &token).await {
        Ok(ending) => ending,
        Err(error) => Ending::fatal(error),
    }
}

async fn serve(settings: &Settings, layout: &Layout, url: &str, token: &Token) -> Result<Ending> {
    let identity = machine::identity(settings)?;
    layout.make_agent()?;
    let registration = Registration::new(settings, &identity)?;
    let port = settings.number("lb-server-port", 6444);
    let local = format!("https://127.0.0.1:{port}");
    let balancer = Balancer::new(url, layout.agent("etc/k3s-agent-load-balancer.json"))?;
    balancer.serve(port).await?;

    let remote = connect(url, &local, token).await;
    while let Err(error) = configure(layout, &remote, &identity).await {
        log::info(format!(
            "Waiting to retrieve agent configuration; server is not ready: {error:#}"
        ));
        tokio::time::sleep(RETRY_CONFIG).await;
    }
    if let Some(message) = node::forbidden_labels(settings) {
        return Ok(Ending::Shutdown(message));
    }
    let api = Api::new(
        &local,
        &layout.agent("server-ca.crt"),
        &layout.agent("client-kubelet.crt"),
        &layout.agent("client-kubelet.key"),
    )?;
    while let Err(error) = registration.register(&api).await {
        log::info(format!(
            "Waiting for API server to become available: {error:#}"
        ));
        tokio::time::sleep(RETRY_API).await;
    }
    log::info("k3s agent is up and running");
    crate::say_ready();
    tokio::task::spawn_local(Runner::new(api.clone(), &identity.node_name, identity.node_ip).run());
    tokio::task::spawn_local(follow_servers(
        balancer,
        url.to_owned(),
        remote,
        own_certificate(layout)?,
    ));
    registration.keep(&api).await;
    Ok(Ending::Asked)
}

/// Repeats until the cluster answers and its CA fits the token. k3s never gives up here.
async fn connect(url: &str, local: &str, token: &Token) -> Remote {
    loop {
        match Remote::connect(local, token).await {
            Ok(remote) => return remote,
            Err(error) => {
                log::error(format!(
                    "Failed to validate connection to cluster at {url}: {error:#}"
                ));
                tokio::time::sleep(RETRY_CONNECT).await;
            }
        }
    }
}

fn own_certificate(layout: &Layout) -> Result<String> {
    let mut pem = layout::read(&layout.agent("client-kubelet.crt"))?;
    pem.push_str(&layout::read(&layout.agent("client-kubelet.key"))?);
    Ok(pem)
}

/// Fetches certificates: by the certificate of an earlier start, and by the token when that is refused.
async fn configure(layout: &Layout, remote: &Remote, identity: &Identity) -> Result<()> {
    let password = node_password::own()?;
    let address = identity.node_ip.to_string();
    let headers = [
        ("k3s-node-name", identity.node_name.as_str()),
        ("k3s-node-password", &password),
        ("k3s-node-ip", &address),
    ];
    let mut credential = Credential::Password(User::Node);
    if let Ok(pem) = own_certificate(layout) {
        let by_certificate = Credential::Certificate(pem);
        if remote
            .get("/v1-k3s/config", &by_certificate, &[])
            .await
            .is_ok()
        {
            credential = by_certificate;
        }
    }
    remote.get("/v1-k3s/config", &credential, &[]).await?;
    for file in ["client-kubelet", "serving-kubelet"] {
        let pair = remote
            .get(&format!("/v1-k3s/{file}.crt"), &credential, &headers)
            .await;
        let pair = pair.map_err(|error| rejected(error, &identity.node_name))?;
        let (certificate, key) = pair
            .find("-----BEGIN PRIVATE KEY-----")
            .and_then(|start| pair.split_at_checked(start))
            .context("the server sent no key")?;
        layout::write(&layout.agent(&format!("{file}.key")), key.as_bytes(), 0o600)?;
        layout::write(
            &layout.agent(&format!("{file}.crt")),
            certificate.as_bytes(),
            0o600,
        )?;
    }
    for file in ["client-ca.crt", "server-ca.crt"] {
        let pem = remote
            .get(&format!("/v1-k3s/{file}"), &credential, &[])
            .await?;
        layout::write(&layout.agent(file), pem.as_bytes(), 0o600)?;
    }
    layout::write(
        &layout.agent("etc/kubelet.conf.d/00-k3s-defaults.conf"),
        server_node::KUBELET.as_bytes(),
        0o600,
    )
}

fn rejected(error: anyhow::Error, node: &str) -> anyhow::Error {
    if !error.to_string().contains("unable to verify password") {
        return error;
    }
    error.context(format!(
        "Node password rejected, duplicate hostname or contents of '/etc/rancher/node/password' may not match server \
         node-passwd entry for {node}, try enabling a unique node name with the --with-node-id flag"
    ))
}

async fn follow_servers(balancer: Rc<Balancer>, url: String, remote: Remote, pem: String) {
    let credential = Credential::Certificate(pem);
    loop {
        // A failure shows in the node's own requests; here the old list stays.
        if let Ok(text) = remote.get("/v1-k3s/apiservers", &credential, &[]).await
            && let Ok(servers) = serde_json::from_str::<Vec<String>>(&text)
        {
            balancer.update(&url, servers);
        }
        tokio::time::sleep(SERVERS).await;
    }
}
