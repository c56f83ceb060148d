//! Connect: from here, hop after hop, to a machine; each hop's address allowed,
//! its host key pinned, its login with the identity that is named for it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use russh::client::{AuthResult, Handle, connect_stream};
use russh::keys::{HashAlg, PrivateKeyWithHashAlg, ssh_key};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use trueup_model::port::NodeError;

use super::allow::AllowList;
use super::host_key::{Pins, Shown, config, is_other_type};
use super::settings::{Hop, SshSettings};

/// A connection that is logged in, and those that carry it.
pub(super) struct Link {
    pub(super) handle: Handle<Pins>,
    carrier: Option<Box<Self>>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

impl Link {
    /// Whether it, or what carries it, is known to be gone.
    pub(super) fn is_closed(&self) -> bool {
        self.handle.is_closed() || self.carrier.as_ref().is_some_and(|link| link.is_closed())
    }
}

/// Connects through all hops.
pub(super) async fn connect(settings: &SshSettings) -> Result<Link, NodeError> {
    let mut carrier: Option<Box<Link>> = None;
    for hop in settings.jump.iter().chain([&settings.target]) {
        let limit = settings.connect_limit;
        let stage = async {
            match carrier.take() {
                None => first(hop, &settings.allow).await,
                Some(link) => further(hop, link, &settings.allow).await,
            }
        };
        // Nothing was asked of the machine yet, whatever happened.
        let link = timeout(limit, stage)
            .await
            .map_err(|_| unreachable(hop, format!("no answer within {} s", limit.as_secs())))??;
        carrier = Some(Box::new(link));
    }
    carrier
        .map(|link| *link)
        .ok_or_else(|| unreachable(&settings.target, "no hop".to_owned()))
}

fn unreachable(hop: &Hop, why: String) -> NodeError {
    NodeError::Unreachable {
        address: hop.place(),
        why,
    }
}

async fn first(hop: &Hop, allow: &AllowList) -> Result<Link, NodeError> {
    let addresses = resolve(hop, allow).await?;
    match handshake(hop, dial(hop, &addresses).await?, &hop.host_keys).await {
        Err(Refusal::OtherType) => {
            // It has no key of a pinned type: ask again for any, only to show it.
            let again = handshake(hop, dial(hop, &addresses).await?, &[]).await;
            Err(again
                .err()
                .map_or_else(|| no_key(hop), |refusal| refusal.error(hop)))
        }
        Err(refusal) => Err(refusal.error(hop)),
        Ok(handle) => login(hop, handle, None).await,
    }
}

async fn further(hop: &Hop, carrier: Box<Link>, allow: &AllowList) -> Result<Link, NodeError> {
    // A name is resolved by the machine before: nothing but the name can be allowed here.
    let allowed = match hop.address.parse::<IpAddr>() {
        Ok(address) => allow.allows(address),
        Err(_) => allow.names(&hop.address),
    };
    if !allowed {
        return Err(NodeError::NotAllowed {
            address: hop.address.clone(),
        });
    }
    match handshake(hop, tunnel(hop, &carrier).await?, &hop.host_keys).await {
        Err(Refusal::OtherType) => {
            let again = handshake(hop, tunnel(hop, &carrier).await?, &[]).await;
            Err(again
                .err()
                .map_or_else(|| no_key(hop), |refusal| refusal.error(hop)))
        }
        Err(refusal) => Err(refusal.error(hop)),
        Ok(handle) => login(hop, handle, Some(carrier)).await,
    }
}

/// The addresses of a hop that may be connected to. They are connected to as they
/// are here, so that a second answer of the DNS cannot lead elsewhere.
async fn resolve(hop: &Hop, allow: &AllowList) -> Result<Vec<SocketAddr>, NodeError> {
    let found: Vec<SocketAddr> = tokio::net::lookup_host((hop.address.as_str(), hop.port))
        .await
        .map_err(|error| unreachable(hop, error.to_string()))?
        .collect();
    let named = hop.address.parse::<IpAddr>().is_err() && allow.names(&hop.address);
    let allowed: Vec<SocketAddr> = found
        .into_iter()
        .filter(|address| named || allow.allows(address.ip()))
        .collect();
    if allowed.is_empty() {
        return Err(NodeError::NotAllowed {
            address: hop.address.clone(),
        });
    }
    Ok(allowed)
}

async fn dial(hop: &Hop, addresses: &[SocketAddr]) -> Result<TcpStream, NodeError> {
    let stream = TcpStream::connect(addresses)
        .await
        .map_err(|error| unreachable(hop, error.to_string()))?;
    stream
        .set_nodelay(true)
        .map_err(|error| unreachable(hop, error.to_string()))?;
    Ok(stream)
}

async fn tunnel(
    hop: &Hop,
    carrier: &Link,
) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static, NodeError> {
    let channel = carrier
        .handle
        .channel_open_direct_tcpip(hop.address.clone(), hop.port.into(), "127.0.0.1", 0)
        .await
        .map_err(|error| unreachable(hop, format!("through the machine before it: {error}")))?;
    Ok(channel.into_stream())
}

enum Refusal {
    /// The host has no key of a pinned type.
    OtherType,
    /// It showed a key that is not pinned.
    Key(Box<russh::keys::PublicKey>),
    Other(russh::Error),
}

impl Refusal {
    fn error(self, hop: &Hop) -> NodeError {
        match self {
            Self::OtherType => no_key(hop),
            Self::Key(key) => NodeError::HostKey {
                address: hop.place(),
                shown: key.fingerprint(HashAlg::Sha256).to_string(),
                line: ssh_key::PublicKey::new(key.key_data().clone(), "")
                    .to_openssh()
                    .unwrap_or_default(),
            },
            Self::Other(error) => unreachable(hop, error.to_string()),
        }
    }
}

fn no_key(hop: &Hop) -> NodeError {
    NodeError::HostKey {
        address: hop.place(),
        shown: "of no type that is pinned".to_owned(),
        line: String::new(),
    }
}

/// Key exchange. With no pinned key it always fails, showing the host's.
async fn handshake<S>(
    hop: &Hop,
    stream: S,
    pinned: &[russh::keys::PublicKey],
) -> Result<Handle<Pins>, Refusal>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut config = config(&hop.host_keys);
    if pinned.is_empty() {
        config.preferred = russh::Preferred::default();
    }
    let shown = Shown::default();
    let pins = Pins::new(pinned, shown.clone());
    connect_stream(Arc::new(config), stream, pins)
        .await
        .map_err(|error| match shown.get() {
            Some(key) => Refusal::Key(Box::new(key)),
            None if is_other_type(&error) => Refusal::OtherType,
            None => Refusal::Other(error),
        })
}

async fn login(
    hop: &Hop,
    mut handle: Handle<Pins>,
    carrier: Option<Box<Link>>,
) -> Result<Link, NodeError> {
    let broke = |error: russh::Error| unreachable(hop, format!("during login: {error}"));
    let hash = if hop.identity.key().algorithm().is_rsa() {
        // Servers that do not tell take SHA-2 all the same; SHA-1 is never used.
        let told = handle.best_supported_rsa_hash().await.map_err(broke)?;
        Some(told.flatten().unwrap_or(HashAlg::Sha512))
    } else {
        None
    };
    let key = PrivateKeyWithHashAlg::new(hop.identity.key(), hash);
    match handle
        .authenticate_publickey(&hop.user, key)
        .await
        .map_err(broke)?
    {
        AuthResult::Success => Ok(Link { handle, carrier }),
        AuthResult::Failure {
            remaining_methods, ..
        } => Err(NodeError::Refused {
            address: hop.place(),
            user: hop.user.clone(),
            why: format!(
                "the key {} was not accepted (it takes {remaining_methods:?})",
                hop.identity.fingerprint(),
            ),
        }),
    }
}

/// How long opening a channel may take on a live connection.
pub(super) const CHANNEL_LIMIT: Duration = Duration::from_secs(10);
