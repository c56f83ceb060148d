//! The supervisor's own paths: who may ask, and what is answered (server/handlers/router.go, checked).

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use serde_json::{Map, Value, json};

use super::proxy::{Body, status, whole};
use super::state::{Caller, State};
use crate::certs::{self, AUTHORITIES};
use crate::etcd::client::Client;
use crate::kube::{self, set};
use crate::layout;
use crate::node_password::{self, Verdict};
use crate::pki::Leaf;

/// What a caller may do here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rank {
    Unknown,
    Wrong,
    Node,
    Server,
}

/// Answers one of the supervisor's paths.
pub(super) async fn answer(
    state: &State,
    caller: Option<Caller>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Response<Body> {
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/ping" => return whole(200, "text/plain", "pong"),
        "/cacerts" => return file(state, "server-ca.crt"),
        _ => {}
    }
    let rank = rank(state, caller.as_ref(), request.headers());
    let local = peer.ip().is_loopback() && path == "/db/info";
    if !local {
        let needed = if path.starts_with("/db/") || path == "/v1-k3s/server-bootstrap" {
            Rank::Server
        } else {
            Rank::Node
        };
        match rank {
            Rank::Wrong => return status(401, "not authorized"),
            // Each path names its role: `server` is refused where `node` is wanted.
            other if other != needed => return status(403, "forbidden"),
            _ => {}
        }
    }
    match path.as_str() {
        "/v1-k3s/config" => json_answer(&json!({
            "Critical": state.critical, "IPSECPSK": read_or_empty(state, "cred/ipsec.psk"), "Version": state.version,
        })),
        "/v1-k3s/readyz" if state.api_ready.get() => whole(200, "text/plain", "ok"),
        "/v1-k3s/readyz" => status(503, "apiserver not ready"),
        "/v1-k3s/apiservers" => json_answer(&json!(*state.servers.borrow())),
        "/v1-k3s/server-ca.crt" => file(state, "server-ca.crt"),
        "/v1-k3s/client-ca.crt" => file(state, "client-ca.crt"),
        "/v1-k3s/server-bootstrap" => bootstrap(state),
        "/v1-k3s/client-kubelet.crt" => {
            kubelet(state, caller.as_ref(), request.headers(), false).await
        }
        "/v1-k3s/serving-kubelet.crt" => {
            kubelet(state, caller.as_ref(), request.headers(), true).await
        }
        "/db/info" => members(state).await,
        _ if path.starts_with("/db/") && !state.embeds_etcd => {
            status(400, "etcd datastore disabled")
        }
        _ => status(404, "the server could not find the requested resource"),
    }
}

/// Basic credentials out of cred/passwd, or a kubelet's client certificate. An
/// administrator's certificate opens none of these paths.
fn rank(state: &State, caller: Option<&Caller>, headers: &HeaderMap) -> Rank {
    let basic = headers
        .get(http::header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Basic "))
        .and_then(|value| STANDARD.decode(value).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok());
    if let Some((user, password)) = basic.as_deref().and_then(|text| text.split_once(':')) {
        return match user {
            "server" if password == state.passwords.server => Rank::Server,
            "node" if password == state.passwords.node => Rank::Node,
            _ => Rank::Wrong,
        };
    }
    match caller {
        Some(caller) if caller.groups.iter().any(|group| group == "system:nodes") => Rank::Node,
        _ => Rank::Unknown,
    }
}

fn json_answer(value: &Value) -> Response<Body> {
    whole(200, "application/json", value.to_string())
}

fn file(state: &State, name: &str) -> Response<Body> {
    match layout::read(&state.layout.tls(name)) {
        Ok(text) => whole(200, "text/plain", text),
        Err(error) => status(500, &format!("{error:#}")),
    }
}

fn read_or_empty(state: &State, path: &str) -> String {
    layout::read_if_there(&state.layout.server(path))
        .ok()
        .flatten()
        .unwrap_or_default()
}

/// The files that a joining server takes over, base64, by their path under server/.
fn bootstrap(state: &State) -> Response<Body> {
    let mut names: Vec<String> = AUTHORITIES
        .iter()
        .flat_map(|(name, _)| [format!("tls/{name}.crt"), format!("tls/{name}.key")])
        .collect();
    names.extend(["tls/service.key", "cred/passwd", "cred/ipsec.psk"].map(str::to_owned));
    let mut files = Map::new();
    for name in names {
        match layout::read(&state.layout.server(&name)) {
            Ok(text) => drop(files.insert(name, Value::String(STANDARD.encode(text)))),
            Err(error) => return status(500, &format!("{error:#}")),
        }
    }
    json_answer(&Value::Object(files))
}

/// Certificate and key for a kubelet, after the check of its node password.
async fn kubelet(
    state: &State,
    caller: Option<&Caller>,
    headers: &HeaderMap,
    serving: bool,
) -> Response<Body> {
    let header = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let Some((node, password)) = header("k3s-node-name").zip(header("k3s-node-password")) else {
        return status(400, "node name or node password not set");
    };
    if let Some(user) = caller.map(|caller| caller.user.as_str())
        && user
            .strip_prefix("system:node:")
            .is_some_and(|own| own != node)
    {
        return status(403, "header node name does not match auth node name");
    }
    if !state.api_ready.get() {
        return status(503, "apiserver not ready");
    }
    match node_password::check(&state.api, &node, &password).await {
        Ok(Verdict::Right) => {}
        Ok(Verdict::Wrong) => {
            return status(
                403,
                &format!("unable to verify password for node {node}: hash does not match"),
            );
        }
        Err(error) => {
            return status(
                503,
                &format!("unable to verify password for node {node}: {error:#}"),
            );
        }
    }
    let user = format!("system:node:{node}");
    let mut names = vec![node.clone(), "localhost".to_owned(), "127.0.0.1".to_owned()];
    names.extend(
        header("k3s-node-ip")
            .iter()
            .flat_map(|list| list.split(','))
            .map(str::to_owned),
    );
    let (authority, leaf) = if serving {
        (
            "server-ca",
            Leaf {
                common_name: &node,
                organizations: &[],
                names: &names,
                server: true,
                client: false,
            },
        )
    } else {
        let organizations = &["system:nodes"];
        (
            "client-ca",
            Leaf {
                common_name: &user,
                organizations,
                names: &[],
                server: false,
                client: true,
            },
        )
    };
    match certs::issue(&state.layout, authority, &leaf) {
        Ok(pair) => whole(
            200,
            "text/plain",
            format!("{}{}", pair.certificate, pair.key),
        ),
        Err(error) => status(500, &format!("{error:#}")),
    }
}

/// The members, for a server that is about to join. Fails without a quorum.
async fn members(state: &State) -> Response<Body> {
    if !state.embeds_etcd {
        return status(400, "etcd datastore disabled");
    }
    let members = match Client::local(&state.layout) {
        Ok(client) => client.members().await,
        Err(error) => Err(error),
    };
    match members {
        Ok(members) => {
            let list: Vec<Value> = members
                .iter()
                .map(|member| {
                    json!({"ID": member.id, "name": member.name, "peerURLs": member.peer_urls,
                           "clientURLs": member.client_urls, "isLearner": member.is_learner})
                })
                .collect();
            json_answer(&json!({ "members": list }))
        }
        Err(error) => status(500, &format!("{error:#}")),
    }
}

/// kube-apiserver's version with the stamped one in its place: in k3s both are one program.
pub(super) async fn version(state: &State) -> Response<Body> {
    match state.api.get("/version").await {
        Ok(Some(mut version)) => {
            let mut parts = state.version.trim_start_matches('v').split('.');
            set(&mut version, "gitVersion", state.version.as_str());
            set(&mut version, "major", parts.next().unwrap_or_default());
            set(&mut version, "minor", parts.next().unwrap_or_default());
            json_answer(&version)
        }
        Err(error) if kube::refused_with(&error, http::StatusCode::UNAUTHORIZED) => {
            status(401, "Unauthorized")
        }
        _ => status(503, "apiserver not ready"),
    }
}
