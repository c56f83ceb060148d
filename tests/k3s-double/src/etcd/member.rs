//! The own etcd member: its name, its configuration file, its process.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use crate::certs::Identity;
use crate::child::Part;
use crate::layout::{self, Layout};
use crate::settings::Settings;
use crate::token;

/// How the member starts when its data directory is empty.
#[derive(Clone, Debug)]
pub(crate) enum Start {
    /// A new cluster of one.
    New,
    /// Into a cluster: `name=peer-url` of all members, this one included.
    Joining(String),
    /// With the data that it has.
    Existing,
}

/// Whether the datastore of this server was ever started: k3s looks for the write-ahead log.
pub(crate) fn has_data(layout: &Layout) -> bool {
    layout.etcd().join("member/wal").exists()
}

/// The member's name from the file `name`, or a new one: `<node>-<8 hex>`.
pub(crate) fn name(layout: &Layout, node: &str) -> Result<String> {
    let path = layout.etcd().join("name");
    if let Some(name) = layout::read_if_there(&path)?.filter(|name| !name.trim().is_empty()) {
        return Ok(name.trim().to_owned());
    }
    let name = format!("{node}-{}", token::random_hex(4)?);
    layout::write(&path, name.as_bytes(), 0o600)?;
    Ok(name)
}

/// The node that a member name belongs to: the name without its suffix.
pub(crate) fn node_of(member: &str) -> &str {
    member.rsplit_once('-').map_or(member, |(node, _)| node)
}

/// The member's peer address.
pub(crate) fn peer_url(address: IpAddr) -> String {
    format!("https://{}:2380", bracketed(address))
}

/// The member's client address as other members and servers reach it.
pub(crate) fn client_url(address: IpAddr) -> String {
    format!("https://{}:2379", bracketed(address))
}

fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// Writes db/etcd/config and starts etcd with it.
pub(crate) fn start(
    layout: &Layout,
    settings: &Settings,
    identity: &Identity,
    name: &str,
    start: &Start,
) -> Result<Part> {
    let text =
        serde_json::to_string_pretty(&configuration(layout, settings, identity, name, start))?;
    let path = layout.etcd().join("config");
    layout::write(&path, text.as_bytes(), 0o600)?;
    Part::start("etcd", &[format!("--config-file={}", path.display())]).context("start etcd")
}

/// etcd reads YAML; JSON is YAML. Heartbeat and election are 500 and 5000 ms in k3s (recalled): shorter here, because a
/// restarted lone member waits up to an election timeout before it leads.
fn configuration(
    layout: &Layout,
    settings: &Settings,
    identity: &Identity,
    name: &str,
    start: &Start,
) -> Value {
    let (client, peer) = (client_url(identity.node_ip), peer_url(identity.node_ip));
    let tls = |certificate: &str, ca: &str| {
        json!({
            "cert-file": layout.tls(&format!("etcd/{certificate}.crt")),
            "key-file": layout.tls(&format!("etcd/{certificate}.key")),
            "trusted-ca-file": layout.tls(&format!("etcd/{ca}.crt")),
            "client-cert-auth": true,
        })
    };
    let (cluster, state) = match start {
        Start::New => (format!("{name}={peer}"), "new"),
        Start::Joining(cluster) => (cluster.clone(), "existing"),
        Start::Existing => (format!("{name}={peer}"), "existing"),
    };
    let metrics = if settings.switch("etcd-expose-metrics") {
        format!(
            "http://127.0.0.1:2381,http://{}:2381",
            bracketed(identity.node_ip)
        )
    } else {
        "http://127.0.0.1:2381".to_owned()
    };
    let mut all = Map::new();
    for (key, value) in [
        ("name", json!(name)),
        ("data-dir", json!(layout.etcd())),
        (
            "listen-client-urls",
            json!(format!("https://127.0.0.1:2379,{client}")),
        ),
        ("advertise-client-urls", json!(client)),
        ("listen-client-http-urls", json!("https://127.0.0.1:2382")),
        (
            "listen-peer-urls",
            json!(format!("https://127.0.0.1:2380,{peer}")),
        ),
        ("initial-advertise-peer-urls", json!(peer)),
        ("listen-metrics-urls", json!(metrics)),
        ("initial-cluster", json!(cluster)),
        ("initial-cluster-state", json!(state)),
        ("heartbeat-interval", json!(200)),
        ("election-timeout", json!(2000)),
        ("snapshot-count", json!(10_000)),
        ("log-outputs", json!(["stderr"])),
        ("logger", json!("zap")),
        ("log-level", json!("warn")),
        (
            "client-transport-security",
            tls("server-client", "server-ca"),
        ),
        (
            "peer-transport-security",
            tls("peer-server-client", "peer-ca"),
        ),
    ] {
        all.insert(key.to_owned(), value);
    }
    for argument in settings.list("etcd-arg") {
        let (key, value) = argument.split_once('=').unwrap_or((&argument, "true"));
        let value = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
        all.insert(key.trim_start_matches('-').to_owned(), value);
    }
    Value::Object(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_of_a_member_name() {
        for (member, node) in [
            ("n1-0123abcd", "n1"),
            ("web-1-0123abcd", "web-1"),
            ("odd", "odd"),
        ] {
            assert_eq!(node_of(member), node);
        }
    }
}
