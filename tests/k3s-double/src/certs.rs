//! The certificates of a server: which authorities there are and what each signs.

use std::net::IpAddr;

use anyhow::Result;
use rcgen::KeyPair;

use crate::layout::{self, Layout};
use crate::pki::{self, Leaf, Pair};
use crate::settings::Settings;

/// Authority files under tls/ and the names that k3s gives them; also what a joining server fetches.
pub(crate) const AUTHORITIES: &[(&str, &str)] = &[
    ("client-ca", "k3s-client-ca"),
    ("server-ca", "k3s-server-ca"),
    ("request-header-ca", "k3s-request-header-ca"),
    ("etcd/server-ca", "etcd-server-ca"),
    ("etcd/peer-ca", "etcd-peer-ca"),
];

/// What the names in certificates are made from.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) node_name: String,
    pub(crate) node_ip: IpAddr,
}

/// Makes the authorities that are missing, and the service account key.
pub(crate) fn ensure_authorities(layout: &Layout) -> Result<()> {
    for (file, name) in AUTHORITIES {
        pki::ensure_ca(
            &layout.tls(&format!("{file}.crt")),
            &layout.tls(&format!("{file}.key")),
            name,
        )?;
    }
    if !layout.tls("service.key").exists() {
        layout::write(
            &layout.tls("service.key"),
            KeyPair::generate()?.serialize_pem().as_bytes(),
            0o600,
        )?;
    }
    // kube-apiserver reads no public key out of a PKCS#8 file, so it gets one of its own (k3s has no such file).
    let key = KeyPair::from_pem(&layout::read(&layout.tls("service.key"))?)?;
    layout::write(
        &layout.tls("service.pub"),
        key.public_key_pem().as_bytes(),
        0o644,
    )
}

/// Signs with an authority of this server, without files.
pub(crate) fn issue(layout: &Layout, authority: &str, leaf: &Leaf<'_>) -> Result<Pair> {
    pki::issue(
        &layout.tls(&format!("{authority}.crt")),
        &layout.tls(&format!("{authority}.key")),
        leaf,
    )
}

/// Makes or renews all leaves of a server.
pub(crate) fn ensure_leaves(
    layout: &Layout,
    settings: &Settings,
    identity: &Identity,
) -> Result<()> {
    let ensure = |authority: &str, file: &str, leaf: &Leaf<'_>| {
        pki::ensure_leaf(
            (
                &layout.tls(&format!("{authority}.crt")),
                &layout.tls(&format!("{authority}.key")),
            ),
            (
                &layout.tls(&format!("{file}.crt")),
                &layout.tls(&format!("{file}.key")),
            ),
            leaf,
        )
    };
    let client = |common_name, organizations| Leaf {
        common_name,
        organizations,
        names: &[],
        server: false,
        client: true,
    };
    ensure(
        "client-ca",
        "client-admin",
        &client("system:admin", &["system:masters"]),
    )?;
    ensure(
        "client-ca",
        "client-supervisor",
        &client("system:k3s-supervisor", &["system:masters"]),
    )?;
    ensure(
        "client-ca",
        "client-controller",
        &client("system:kube-controller-manager", &[]),
    )?;
    ensure(
        "client-ca",
        "client-scheduler",
        &client("system:kube-scheduler", &[]),
    )?;
    ensure(
        "client-ca",
        "client-kube-apiserver",
        &client("system:apiserver", &["system:masters"]),
    )?;
    ensure(
        "request-header-ca",
        "client-auth-proxy",
        &client("system:auth-proxy", &[]),
    )?;

    let names = server_names(settings, identity);
    let serving = |common_name, names| Leaf {
        common_name,
        organizations: &[],
        names,
        server: true,
        client: false,
    };
    ensure(
        "server-ca",
        "serving-kube-apiserver",
        &serving("kube-apiserver", &names),
    )?;

    let names = vec![
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
        identity.node_ip.to_string(),
        identity.node_name.clone(),
    ];
    let both = |common_name, names| Leaf {
        common_name,
        organizations: &[],
        names,
        server: true,
        client: true,
    };
    ensure(
        "etcd/server-ca",
        "etcd/server-client",
        &both("etcd-server", &names),
    )?;
    ensure(
        "etcd/peer-ca",
        "etcd/peer-server-client",
        &both("etcd-peer", &names),
    )?;
    ensure("etcd/server-ca", "etcd/client", &client("etcd-client", &[]))?;
    Ok(())
}

fn server_names(settings: &Settings, identity: &Identity) -> Vec<String> {
    let mut names: Vec<String> = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
        "127.0.0.1",
        "::1",
        &identity.node_name,
    ]
    .map(str::to_owned)
    .into();
    names.push(identity.node_ip.to_string());
    names.push(service_address(settings));
    names.extend(settings.split_list("tls-san"));
    names.extend(settings.split_list("node-external-ip"));
    names.sort();
    names.dedup();
    names
}

/// The first address of the service range, which the `kubernetes` Service gets.
fn service_address(settings: &Settings) -> String {
    let ranges = settings.split_list("service-cidr");
    let range = ranges.first().map_or("10.43.0.0/16", String::as_str);
    match range
        .split('/')
        .next()
        .and_then(|address| address.parse::<IpAddr>().ok())
    {
        Some(IpAddr::V4(address)) => {
            std::net::Ipv4Addr::from(u32::from(address).wrapping_add(1)).to_string()
        }
        Some(IpAddr::V6(address)) => {
            std::net::Ipv6Addr::from(u128::from(address).wrapping_add(1)).to_string()
        }
        None => "10.43.0.1".to_owned(),
    }
}
