//! etcd of one cluster, by gRPC through the machines' connections. Each look is
//! fresh: the member list from a server that a quorum stands behind, and every
//! member's Status from its own machine. Nothing is kept but the certificates.

mod message;
mod talk;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use rustls::ClientConfig;
use secrecy::ExposeSecret as _;
use tokio::time::timeout;
use trueup_model::facts::etcd::{EtcdFacts, EtcdMember};
use trueup_model::id::NodeName;
use trueup_model::port::{Etcd, EtcdError, NodeShell};

use self::message::{Member, StatusResponse};
use self::talk::{Question, Talk};
use crate::tls;

/// Where k3s keeps etcd's certificates, unless `data-dir` says otherwise.
pub const TLS_DIR: &str = "/var/lib/rancher/k3s/server/tls/etcd";
/// etcd's gRPC port; on 2382 k3s serves JSON only.
pub const CLIENT_PORT: u16 = 2379;

/// Longest wait for one member: connection, TLS and answer. An election takes 1 s
/// with etcd's defaults, and a linearizable read waits for its end.
const MEMBER_LIMIT: Duration = Duration::from_secs(5);
/// Longest wait for a machine to hand over the certificates.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// What etcd of a cluster needs.
#[derive(Debug)]
pub struct EtcdSettings {
    /// The cluster's servers.
    pub servers: Vec<(NodeName, Arc<dyn NodeShell>)>,
    /// Folder with `server-ca.crt`, `client.crt` and `client.key` on each server.
    pub tls_dir: String,
    /// etcd's client port on each server.
    pub port: u16,
}

/// etcd of one cluster.
pub struct EtcdApi {
    settings: EtcdSettings,
    /// By machine; forgotten at the first failure, since k3s renews at its start.
    tls: Mutex<BTreeMap<NodeName, Arc<ClientConfig>>>,
}

impl Debug for EtcdApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdApi")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl EtcdApi {
    /// Nothing is dialled yet.
    pub fn new(settings: EtcdSettings) -> Self {
        Self {
            settings,
            tls: Mutex::new(BTreeMap::new()),
        }
    }

    /// Ask one server, with fresh certificates if the kept ones do not do.
    async fn ask<T>(
        &self,
        node: &NodeName,
        shell: &dyn NodeShell,
        question: &Question<T>,
    ) -> Result<T, EtcdError> {
        let kept = {
            let kept = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
            kept.get(node).cloned()
        };
        if let Some(tls) = kept {
            match self.ask_with(node, shell, tls, question).await {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    tracing::debug!(%node, %error, "asked again with fresh certificates");
                    let mut kept = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
                    kept.remove(node);
                }
            }
        }
        let tls = self.read(node, shell).await?;
        let answer = self
            .ask_with(node, shell, Arc::clone(&tls), question)
            .await?;
        let mut kept = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(node.clone(), tls);
        Ok(answer)
    }

    async fn ask_with<T>(
        &self,
        node: &NodeName,
        shell: &dyn NodeShell,
        tls: Arc<ClientConfig>,
        question: &Question<T>,
    ) -> Result<T, EtcdError> {
        let unreachable = |why: String| EtcdError::Unreachable {
            node: node.to_string(),
            why,
        };
        let asked = async {
            let stream = shell
                .dial(self.settings.port)
                .await
                .map_err(|error| error.to_string())?;
            question(Talk::open(stream, tls).await?).await
        };
        match timeout(MEMBER_LIMIT, asked).await {
            Ok(answer) => answer.map_err(unreachable),
            Err(_) => Err(unreachable(format!(
                "no answer within {} s",
                MEMBER_LIMIT.as_secs()
            ))),
        }
    }

    /// The certificates on one server.
    async fn read(
        &self,
        node: &NodeName,
        shell: &dyn NodeShell,
    ) -> Result<Arc<ClientConfig>, EtcdError> {
        let credential = |why: String| EtcdError::Credential {
            node: node.to_string(),
            why,
        };
        let mut texts = Vec::new();
        for name in ["server-ca.crt", "client.crt", "client.key"] {
            let path = format!("{}/{name}", self.settings.tls_dir);
            let text = timeout(READ_LIMIT, shell.read_secret(&path))
                .await
                .map_err(|_| credential(format!("{path}: no answer in time")))?
                .map_err(|error| credential(error.to_string()))?
                .ok_or_else(|| credential(format!("{path} does not exist")))?;
            texts.push(text);
        }
        let [ca, cert, key] = texts.as_slice() else {
            return Err(credential("three files were wanted".to_owned()));
        };
        let identity = (cert.expose_secret(), key.expose_secret());
        tls::client_config(ca.expose_secret(), Some(identity), &[b"h2"])
            .map_err(|error| credential(error.to_string()))
    }

    /// Ask all servers at once; the first answer counts. One that is frozen must not
    /// cost its whole deadline when another could have answered.
    async fn ask_any<T>(&self, question: &Question<T>) -> Result<T, EtcdError> {
        let mut asked: FuturesUnordered<_> = self
            .settings
            .servers
            .iter()
            .map(|(node, shell)| self.ask(node, shell.as_ref(), question))
            .collect();
        let mut errors = Vec::new();
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => errors.push(error),
            }
        }
        let all_credential = errors
            .iter()
            .all(|error| matches!(error, EtcdError::Credential { .. }));
        let why: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let (node, why) = ("every server".to_owned(), why.join("; "));
        Err(if all_credential && !errors.is_empty() {
            EtcdError::Credential { node, why }
        } else {
            EtcdError::Unreachable { node, why }
        })
    }

    async fn list(&self, linearizable: bool) -> Result<Vec<Member>, EtcdError> {
        let question = move |talk: Talk| talk.member_list(linearizable).boxed();
        self.ask_any(&question).await
    }

    /// The machine of a member: k3s names members `<node>-<8 hex digits>`.
    fn machine_of(&self, member: &Member) -> Option<&(NodeName, Arc<dyn NodeShell>)> {
        let node = node_of(&member.name)?;
        self.settings
            .servers
            .iter()
            .find(|(name, _)| name.as_str() == node)
    }

    /// A member's own Status, from its own machine.
    async fn status(&self, member: &Member) -> Option<StatusResponse> {
        let (node, shell) = self.machine_of(member)?;
        let question = |talk: Talk| talk.status().boxed();
        match self.ask(node, shell.as_ref(), &question).await {
            Ok(status) => {
                let who = status.header.as_ref().map(|header| header.member_id);
                // Another member on that machine: a wiped one that came back.
                (who == Some(member.id)).then_some(status)
            }
            Err(error) => {
                tracing::debug!(member = member.name, %error, "a member gave no status");
                None
            }
        }
    }

    async fn alarms(&self, members: &[Member]) -> Result<Vec<String>, EtcdError> {
        let question = |talk: Talk| talk.alarms().boxed();
        let alarms = self.ask_any(&question).await?;
        let named = alarms.into_iter().map(|alarm| {
            let member = members.iter().find(|member| member.id == alarm.member_id);
            let name = member.map_or_else(
                || format!("{:x}", alarm.member_id),
                |member| member.name.clone(),
            );
            format!("{name}: {}", alarm.name())
        });
        Ok(named.collect())
    }
}

#[async_trait]
impl Etcd for EtcdApi {
    async fn members(&self) -> Result<EtcdFacts, EtcdError> {
        // Without a quorum only a member's own list is to be had. It is worth showing,
        // and must not pass for more: the alarm keeps every gate shut.
        let (list, unconfirmed) = match self.list(true).await {
            Ok(list) => (list, None),
            Err(error) => (self.list(false).await?, Some(error)),
        };
        let asked = futures::future::join_all(list.iter().map(|member| self.status(member)));
        let (statuses, alarms) = futures::join!(asked, self.alarms(&list));
        let mut members: Vec<EtcdMember> = list
            .iter()
            .zip(statuses)
            .map(|(member, status)| {
                let leader = status.map_or(0, |status| status.leader);
                EtcdMember {
                    id: format!("{:x}", member.id),
                    name: member.name.clone(),
                    peer_urls: member.peer_urls.clone(),
                    learner: member.is_learner,
                    healthy: leader != 0,
                    leader: leader == member.id && leader != 0,
                }
            })
            .collect();
        members.sort_by(|one, other| one.name.cmp(&other.name).then(one.id.cmp(&other.id)));
        let mut alarms = match alarms {
            Ok(alarms) => alarms,
            Err(error) => vec![format!("cluster: the alarms are not known: {error}")],
        };
        if let Some(error) = unconfirmed {
            alarms.push(format!(
                "cluster: no quorum confirms the member list: {error}"
            ));
        }
        Ok(EtcdFacts { members, alarms })
    }
}

/// The node in a member's name.
fn node_of(member: &str) -> Option<&str> {
    let (node, hex) = member.rsplit_once('-')?;
    let is_hex = hex.len() == 8 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_hex && !node.is_empty()).then_some(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_name_their_machine() {
        let table = [
            ("s1-0a1b2c3d", Some("s1")),
            ("edge-server-2-00000000", Some("edge-server-2")),
            ("s1", None),
            ("", None),
            ("s1-0a1b2c3", None),
            ("-0a1b2c3d", None),
        ];
        for (name, wanted) in table {
            assert_eq!(node_of(name), wanted, "{name}");
        }
    }
}
