//! What the listener knows: its phase, the passwords, and how to reach the parts behind it.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use anyhow::Result;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;

use crate::certs::Identity;
use crate::critical::Critical;
use crate::kube::Api;
use crate::layout::{self, Layout};
use crate::passwd::Passwords;
use crate::pki;
use crate::tls;

const KNOWN_SERVERS: &str = "db/known-servers.json";

fn known_servers(layout: &Layout) -> Vec<String> {
    let text = layout::read_if_there(&layout.server(KNOWN_SERVERS))
        .ok()
        .flatten();
    text.and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default()
}

/// Who a client certificate says the caller is.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) user: String,
    pub(crate) groups: Vec<String>,
}

/// State of one server's listener. One thread serves it, so cells suffice.
pub(crate) struct State {
    pub(crate) layout: Layout,
    pub(crate) identity: Identity,
    pub(crate) passwords: Passwords,
    pub(crate) critical: Critical,
    pub(crate) version: String,
    /// Whether others can join: false for a datastore of one's own.
    pub(crate) embeds_etcd: bool,
    /// Set once kube-apiserver answered /readyz.
    pub(crate) api_ready: Cell<bool>,
    /// The administrator's client of kube-apiserver.
    pub(crate) api: Api,
    /// Addresses of servers as last seen among the members.
    pub(crate) servers: RefCell<Vec<String>>,
    pub(crate) upstream: super::proxy::Upstream,
    check: Arc<dyn ClientCertVerifier>,
}

impl State {
    /// Reads the certificates that it needs; they must have been made.
    pub(crate) fn new(
        layout: &Layout,
        identity: &Identity,
        passwords: &Passwords,
        critical: Critical,
        embeds_etcd: bool,
    ) -> Result<Self> {
        let api = Api::new(
            crate::control_plane::APISERVER,
            &layout.tls("server-ca.crt"),
            &layout.tls("client-admin.crt"),
            &layout.tls("client-admin.key"),
        )?;
        Ok(Self {
            layout: layout.clone(),
            identity: identity.clone(),
            passwords: passwords.clone(),
            critical,
            version: crate::release::running(),
            embeds_etcd,
            api_ready: Cell::new(false),
            api,
            servers: RefCell::new(known_servers(layout)),
            upstream: super::proxy::Upstream::new(layout)?,
            check: tls::client_check(&layout.tls("client-ca.crt"))?,
        })
    }

    /// Takes over the servers that etcd's members are now. They are kept in a file (the double's own), because a
    /// member that was removed while it was down can learn that only from the others.
    pub(crate) fn learn_servers(&self, servers: Vec<String>) -> Result<()> {
        if *self.servers.borrow() == servers {
            return Ok(());
        }
        let text = serde_json::to_string(&servers)?;
        *self.servers.borrow_mut() = servers;
        layout::write(&self.layout.server(KNOWN_SERVERS), text.as_bytes(), 0o600)
    }

    /// The caller that a certificate chain proves, or none when it is not of this cluster or has expired.
    pub(super) fn caller(&self, chain: &[CertificateDer<'_>]) -> Option<Caller> {
        let (first, rest) = chain.split_first()?;
        self.check
            .verify_client_cert(first, rest, UnixTime::now())
            .ok()?;
        let facts = pki::facts_of(first).ok()?;
        Some(Caller {
            user: facts.common_name,
            groups: facts.organizations,
        })
    }
}
