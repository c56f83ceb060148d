//! The way to the API servers: through the machines' own connections, or directly.
//! One target is preferred; when it fails, the others are tried in turn and the one
//! that answers becomes the preferred one.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::pki_types::ServerName;
use secrecy::SecretSlice;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tokio_util::compat::FuturesAsyncReadCompatExt as _;
use trueup_model::id::NodeName;
use trueup_model::port::NodeShell;

use super::credential::{self, Credential};
use super::wire::{self, Fault, Wire};
use crate::tls::Validity;

/// Where a k3s server keeps its admin's kubeconfig.
const KUBECONFIG: &str = "/etc/rancher/k3s/k3s.yaml";
/// Longest wait for a connection with TLS to one server, before the next is tried.
const DIAL_LIMIT: Duration = Duration::from_secs(6);
/// Longest wait for a machine to hand over its kubeconfig.
const READ_LIMIT: Duration = Duration::from_secs(10);
/// A certificate is read again when less than this is left, or a third of its life.
const RENEW_BEFORE_S: i64 = 3600;
/// k3s renews certificates at its start only, so the file may hold an old one for
/// months: between two looks at it lies at least this.
const REREAD_PAUSE: Duration = Duration::from_secs(600);
/// After a refusal by the server the file is read at once, but not more often.
const REREAD_PAUSE_REFUSED: Duration = Duration::from_secs(5);

/// One way to an API server.
#[derive(Debug)]
enum Target {
    /// `127.0.0.1` of a machine, through its connection.
    Through(NodeName, Arc<dyn NodeShell>),
    /// From this host.
    Direct(String, u16),
}

impl Target {
    fn name(&self) -> String {
        match self {
            Self::Through(node, _) => node.to_string(),
            Self::Direct(host, port) => format!("{host}:{port}"),
        }
    }
}

/// The credential in use.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) credential: Arc<Credential>,
    /// Grows with every change of the credential.
    pub(crate) generation: u64,
}

#[derive(Debug, Default)]
struct Keys {
    session: Option<Session>,
    /// When the kubeconfig was last read, well or not.
    read_at: Option<Instant>,
}

/// The way to the API servers of one cluster.
pub(crate) struct Route {
    targets: Vec<Target>,
    preferred: AtomicUsize,
    keys: Mutex<Keys>,
    /// A kubeconfig that was given, instead of k3s' own.
    given: Option<SecretSlice<u8>>,
}

impl Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Route")
            .field("targets", &self.targets)
            .field("preferred", &self.preferred)
            .finish_non_exhaustive()
    }
}

impl Route {
    /// `endpoint` (`HOST:PORT`) comes before the servers; a given kubeconfig without
    /// servers is dialled where it says.
    pub(crate) fn new(
        servers: Vec<(NodeName, Arc<dyn NodeShell>)>,
        given: Option<SecretSlice<u8>>,
        endpoint: Option<&str>,
    ) -> Result<Self, Fault> {
        let credential = |error: credential::CredentialFault| Fault::Credential(error.to_string());
        let mut targets = Vec::new();
        if let Some(endpoint) = endpoint {
            let (host, port) = credential::host_and_port(endpoint).map_err(credential)?;
            targets.push(Target::Direct(host, port));
        }
        targets.extend(
            servers
                .into_iter()
                .map(|(node, shell)| Target::Through(node, shell)),
        );
        if let (true, Some(given)) = (targets.is_empty(), &given) {
            let (host, port) = credential::parse(given).map_err(credential)?.server;
            targets.push(Target::Direct(host, port));
        }
        if targets.is_empty() {
            return Err(Fault::NotSent("the cluster has no server".to_owned()));
        }
        Ok(Self {
            targets,
            preferred: AtomicUsize::new(0),
            keys: Mutex::new(Keys::default()),
            given,
        })
    }

    /// The credential; read again where it is old, or where `refused` names the
    /// generation that an API server did not accept.
    pub(crate) async fn session(&self, refused: Option<u64>) -> Result<Session, Fault> {
        let mut keys = self.keys.lock().await;
        let pause = if let Some(session) = &keys.session {
            match refused {
                Some(generation) if generation == session.generation => REREAD_PAUSE_REFUSED,
                Some(_) => return Ok(session.clone()),
                None if !is_old(&session.credential, now_s()) => return Ok(session.clone()),
                None => REREAD_PAUSE,
            }
        } else {
            Duration::ZERO
        };
        if let (Some(session), Some(read_at)) = (&keys.session, keys.read_at)
            && read_at.elapsed() < pause
        {
            return Ok(session.clone());
        }
        keys.read_at = Some(Instant::now());
        match (self.read().await, keys.session.take()) {
            (Ok(fresh), Some(old)) if fresh.fingerprint == old.credential.fingerprint => {
                keys.session = Some(old);
            }
            (Ok(fresh), old) => {
                keys.session = Some(Session {
                    credential: Arc::new(fresh),
                    generation: old.map_or(1, |old| old.generation + 1),
                });
            }
            // What was read before may still do.
            (Err(error), Some(old)) => {
                tracing::debug!(why = error.why(), "the kubeconfig could not be read again");
                keys.session = Some(old);
            }
            (Err(error), None) => return Err(error),
        }
        let session = keys.session.clone();
        session.ok_or_else(|| Fault::Credential("no kubeconfig".to_owned()))
    }

    /// Read the kubeconfig: the given one, or that of the first server that has one.
    async fn read(&self) -> Result<Credential, Fault> {
        if let Some(given) = &self.given {
            return credential::parse(given).map_err(|error| Fault::Credential(error.to_string()));
        }
        let mut tried = Vec::new();
        // A machine that does not answer says nothing about the credential.
        let mut answered = false;
        for index in self.order() {
            let Some(Target::Through(node, shell)) = self.targets.get(index) else {
                continue;
            };
            let read = timeout(READ_LIMIT, shell.read_secret(KUBECONFIG)).await;
            let why = match read {
                Ok(Ok(Some(text))) => match credential::parse(&text) {
                    Ok(credential) => return Ok(credential),
                    Err(error) => {
                        answered = true;
                        error.to_string()
                    }
                },
                Ok(Ok(None)) => {
                    answered = true;
                    format!("{KUBECONFIG} does not exist")
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {} s", READ_LIMIT.as_secs()),
            };
            tried.push(format!("{node}: {why}"));
        }
        let why = tried.join("; ");
        Err(if answered || tried.is_empty() {
            Fault::Credential(why)
        } else {
            Fault::NotSent(why)
        })
    }

    /// Indices of targets, the preferred one first.
    fn order(&self) -> impl Iterator<Item = usize> + use<> {
        let count = self.targets.len();
        let first = self.preferred.load(Ordering::Relaxed);
        (0..count).map(move |step| (first + step) % count.max(1))
    }

    /// Prefer the next target, if `target` is still the preferred one.
    pub(crate) fn turn_from(&self, target: usize) {
        let next = (target + 1) % self.targets.len().max(1);
        // Another request may have turned already: then its choice stands.
        let turned =
            self.preferred
                .compare_exchange(target, next, Ordering::Relaxed, Ordering::Relaxed);
        if turned.is_ok() && next != target {
            tracing::debug!(target, next, "another API server is preferred");
        }
    }

    /// How many servers there are.
    pub(crate) fn targets(&self) -> usize {
        self.targets.len()
    }

    /// The target that is this machine.
    pub(crate) fn target_of(&self, node: &NodeName) -> Option<usize> {
        self.targets
            .iter()
            .position(|target| matches!(target, Target::Through(name, _) if name == node))
    }

    /// A new connection to the first server that answers.
    pub(crate) async fn connect(&self, session: &Session) -> Result<Wire, Fault> {
        let mut tried = Vec::new();
        for index in self.order() {
            match self.connect_to(index, session).await {
                Ok(wire) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(wire);
                }
                Err(error) => tried.push(error.why().to_owned()),
            }
        }
        Err(Fault::NotSent(tried.join("; ")))
    }

    /// A new connection to one server.
    pub(crate) async fn connect_to(&self, index: usize, session: &Session) -> Result<Wire, Fault> {
        let Some(target) = self.targets.get(index) else {
            return Err(Fault::NotSent("no such server".to_owned()));
        };
        let opened = timeout(DIAL_LIMIT, self.dial(index, target, session)).await;
        let why = match opened {
            Ok(Ok(wire)) => return Ok(wire),
            Ok(Err(why)) => why,
            Err(_) => format!("no connection within {} s", DIAL_LIMIT.as_secs()),
        };
        Err(Fault::NotSent(format!("{}: {why}", target.name())))
    }

    async fn dial(&self, index: usize, target: &Target, session: &Session) -> Result<Wire, String> {
        let credential = &session.credential;
        let name_of = |host: &str| {
            let host = credential.tls_name.as_deref().unwrap_or(host);
            ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())
        };
        let tls = Arc::clone(&credential.tls);
        match target {
            Target::Through(_, shell) => {
                let (host, port) = &credential.server;
                let stream = shell.dial(*port).await.map_err(|error| error.to_string())?;
                // k3s.yaml names 127.0.0.1 (or the bind-address): both are in the SANs.
                let name = name_of(host)?;
                wire::open(stream.compat(), tls, name, index, session.generation).await
            }
            Target::Direct(host, port) => {
                let stream = tokio::net::TcpStream::connect((host.as_str(), *port))
                    .await
                    .map_err(|error| error.to_string())?;
                // Small requests must not wait for Nagle's algorithm.
                stream
                    .set_nodelay(true)
                    .map_err(|error| error.to_string())?;
                let name = name_of(host)?;
                wire::open(stream, tls, name, index, session.generation).await
            }
        }
    }
}

/// Past two thirds of its life, or with less than an hour left.
fn is_old(credential: &Credential, now_s: i64) -> bool {
    credential
        .validity
        .is_some_and(|validity| is_past_two_thirds(validity, now_s))
}

fn is_past_two_thirds(validity: Validity, now_s: i64) -> bool {
    let left = validity.until_s - now_s;
    let life = validity.until_s - validity.from_s;
    left < RENEW_BEFORE_S || left < life / 3
}

fn now_s() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_a_certificate_is_read_again() {
        const DAY: i64 = 86_400;
        let year = Validity {
            from_s: 0,
            until_s: 365 * DAY,
        };
        let table = [
            (year, DAY, false),
            (year, 243 * DAY, false),
            (year, 244 * DAY, true),
            (year, 400 * DAY, true),
            // Two hours of life: an hour before its end comes before two thirds.
            (
                Validity {
                    from_s: 0,
                    until_s: 7_200,
                },
                3_599,
                false,
            ),
            (
                Validity {
                    from_s: 0,
                    until_s: 7_200,
                },
                3_601,
                true,
            ),
        ];
        for (validity, now_s, wanted) in table {
            assert_eq!(
                is_past_two_thirds(validity, now_s),
                wanted,
                "{validity:?} {now_s}"
            );
        }
    }
}
