//! The node part of a server: its own certificates, its Node with the roles, its pods.

use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tokio::sync::mpsc;

use crate::certs;
use crate::control_plane::APISERVER;
use crate::ending::Ending;
use crate::etcd::member;
use crate::kube::{Api, Patch, set};
use crate::layout;
use crate::log;
use crate::node::{self, Registration};
use crate::node_password::{self, Verdict};
use crate::pki::Leaf;
use crate::pods::Runner;
use crate::settings::Settings;
use crate::supervisor::State;

const RETRY: Duration = Duration::from_millis(500);

/// Starts the node part beside the running server; labels that a kubelet refuses end the process through `stop`.
pub(crate) async fn start(
    state: Rc<State>,
    settings: &Settings,
    member: Option<String>,
    stop: mpsc::UnboundedSender<Ending>,
) -> Result<(), Ending> {
    if let Some(message) = node::forbidden_labels(settings) {
        drop(stop.send(Ending::Shutdown(message)));
        return Ok(());
    }
    let shutdown = |error: anyhow::Error| Ending::Shutdown(format!("kubelet exited: {error:#}"));
    let registration = Registration::new(settings, &state.identity).map_err(shutdown)?;
    let api = certificates(&state).map_err(shutdown)?;
    while let Err(error) = register(&state, &registration, &api, member.as_deref()).await {
        log::warn(format!("Waiting to register node: {error:#}"));
        tokio::time::sleep(RETRY).await;
    }
    tokio::task::spawn_local(
        Runner::new(
            api.clone(),
            &state.identity.node_name,
            state.identity.node_ip,
        )
        .run(),
    );
    tokio::task::spawn_local(async move { registration.keep(&api).await });
    Ok(())
}

/// The kubelet's certificates, made anew at every start.
fn certificates(state: &State) -> Result<Api> {
    let layout = &state.layout;
    layout.make_agent()?;
    let user = format!("system:node:{}", state.identity.node_name);
    let names = [
        state.identity.node_name.clone(),
        "127.0.0.1".to_owned(),
        state.identity.node_ip.to_string(),
    ];
    let client = Leaf {
        common_name: &user,
        organizations: &["system:nodes"],
        names: &[],
        server: false,
        client: true,
    };
    let serving = Leaf {
        common_name: &state.identity.node_name,
        organizations: &[],
        names: &names,
        server: true,
        client: false,
    };
    for (file, authority, leaf) in [
        ("client-kubelet", "client-ca", client),
        ("serving-kubelet", "server-ca", serving),
    ] {
        let pair = certs::issue(layout, authority, &leaf)?;
        layout::write(
            &layout.agent(&format!("{file}.key")),
            pair.key.as_bytes(),
            0o600,
        )?;
        layout::write(
            &layout.agent(&format!("{file}.crt")),
            pair.certificate.as_bytes(),
            0o600,
        )?;
    }
    for file in ["client-ca.crt", "server-ca.crt"] {
        layout::write(
            &layout.agent(file),
            layout::read(&layout.tls(file))?.as_bytes(),
            0o600,
        )?;
    }
    layout::write(
        &layout.agent("etc/kubelet.conf.d/00-k3s-defaults.conf"),
        KUBELET.as_bytes(),
        0o600,
    )?;
    Api::new(
        APISERVER,
        &layout.agent("server-ca.crt"),
        &layout.agent("client-kubelet.crt"),
        &layout.agent("client-kubelet.key"),
    )
}

/// The kubelet's defaults; nobody here reads them, but they lie where k3s puts them.
pub(crate) const KUBELET: &str =
    "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";

async fn register(
    state: &State,
    registration: &Registration,
    api: &Api,
    member: Option<&str>,
) -> Result<()> {
    let name = &state.identity.node_name;
    // A server checks itself and is never refused.
    if node_password::check(&state.api, name, &node_password::own()?).await? == Verdict::Wrong {
        log::warn(format!(
            "NodePasswordValidationFailed: deferred node password verification failed for {name}"
        ));
    }
    registration.register(api).await?;
    let mut labels = json!({"node-role.kubernetes.io/control-plane": "true"});
    let mut annotations = json!({});
    if let Some(member) = member {
        set(&mut labels, "node-role.kubernetes.io/etcd", "true");
        set(&mut annotations, "etcd.k3s.cattle.io/node-name", member);
        set(
            &mut annotations,
            "etcd.k3s.cattle.io/node-address",
            state.identity.node_ip.to_string(),
        );
        log::info(format!(
            "Set etcd member {member} at {}",
            member::client_url(state.identity.node_ip)
        ));
    }
    let patch = json!({"metadata": {"labels": labels, "annotations": annotations}});
    state
        .api
        .patch(&format!("/api/v1/nodes/{name}"), Patch::Merge, &patch)
        .await
        .map(drop)
}
