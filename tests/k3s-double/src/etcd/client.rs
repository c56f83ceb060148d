//! A client of etcd's gRPC interface over mutual TLS, for membership only.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use http::Uri;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::messages::{
    MemberAddRequest, MemberAddResponse, MemberIdRequest, MemberListRequest, MembersResponse,
    MoveLeaderRequest, MoveLeaderResponse, StatusRequest, StatusResponse,
};
use crate::layout::Layout;
use crate::tls;

pub(crate) use super::messages::Member;

/// One call, the connection included. A member change waits for the disk of a majority.
const CALL: Duration = Duration::from_secs(5);
/// The own member listens before it serves, so a call may hang there.
const CALL_LOCAL: Duration = Duration::from_secs(2);

/// Asks the first of several members that answers.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    endpoints: Vec<String>,
    config: Arc<rustls::ClientConfig>,
    call: Duration,
}

/// The state of one member.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Status {
    pub(crate) member: u64,
    pub(crate) leader: u64,
    pub(crate) raft_index: u64,
    pub(crate) learner: bool,
}

impl Client {
    /// With the client certificate of tls/etcd.
    pub(crate) fn new(layout: &Layout, endpoints: Vec<String>) -> Result<Self> {
        let config = tls::client_config(
            &layout.tls("etcd/server-ca.crt"),
            Some((
                &layout.tls("etcd/client.crt"),
                &layout.tls("etcd/client.key"),
            )),
        )?;
        Ok(Self {
            endpoints,
            config: Arc::new(config),
            call: CALL,
        })
    }

    /// Asks the own member only.
    pub(crate) fn local(layout: &Layout) -> Result<Self> {
        let client = Self::new(layout, vec!["https://127.0.0.1:2379".to_owned()])?;
        Ok(Self {
            call: CALL_LOCAL,
            ..client
        })
    }

    /// The state of the first endpoint.
    pub(crate) async fn status(&self) -> Result<Status> {
        let answer: StatusResponse = self
            .call("/etcdserverpb.Maintenance/Status", StatusRequest {})
            .await?;
        Ok(Status {
            member: answer.header.map_or(0, |header| header.member_id),
            leader: answer.leader,
            raft_index: answer.raft_index,
            learner: answer.is_learner,
        })
    }

    /// All members, by a linearizable read: it fails without a quorum.
    pub(crate) async fn members(&self) -> Result<Vec<Member>> {
        let request = MemberListRequest { linearizable: true };
        let answer: MembersResponse = self
            .call("/etcdserverpb.Cluster/MemberList", request)
            .await?;
        Ok(answer.members)
    }

    /// Adds a learner with that peer address; gives its id and all members.
    pub(crate) async fn add_learner(&self, peer_url: &str) -> Result<(u64, Vec<Member>)> {
        let request = MemberAddRequest {
            peer_urls: vec![peer_url.to_owned()],
            is_learner: true,
        };
        let answer: MemberAddResponse = self
            .call("/etcdserverpb.Cluster/MemberAdd", request)
            .await?;
        let id = answer
            .member
            .map(|member| member.id)
            .ok_or_else(|| anyhow!("etcd named no new member"))?;
        Ok((id, answer.members))
    }

    /// Makes a learner a voter; etcd refuses while it lags behind.
    pub(crate) async fn promote(&self, id: u64) -> Result<()> {
        self.call(
            "/etcdserverpb.Cluster/MemberPromote",
            MemberIdRequest { id },
        )
        .await
        .map(|_: MembersResponse| ())
    }

    /// Removes a member.
    pub(crate) async fn remove(&self, id: u64) -> Result<()> {
        self.call("/etcdserverpb.Cluster/MemberRemove", MemberIdRequest { id })
            .await
            .map(|_: MembersResponse| ())
    }

    /// Hands leadership to another member; only the leader does it.
    pub(crate) async fn move_leader(&self, target_id: u64) -> Result<()> {
        let request = MoveLeaderRequest { target_id };
        self.call("/etcdserverpb.Maintenance/MoveLeader", request)
            .await
            .map(|_: MoveLeaderResponse| ())
    }

    async fn call<Q, A>(&self, path: &'static str, request: Q) -> Result<A>
    where
        Q: prost::Message + Clone + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let mut last = anyhow!("no etcd endpoint is known");
        for endpoint in &self.endpoints {
            let attempt = async {
                let channel = self.connect(endpoint).await?;
                let mut grpc = Grpc::new(channel);
                grpc.ready()
                    .await
                    .with_context(|| format!("reach {endpoint}"))?;
                let codec: ProstCodec<Q, A> = ProstCodec::default();
                let request = tonic::Request::new(request.clone());
                match grpc
                    .unary(request, PathAndQuery::from_static(path), codec)
                    .await
                {
                    Ok(answer) => Ok(Ok(answer.into_inner())),
                    // Unavailable means no leader or not started; another member may do better.
                    Err(status) if status.code() == tonic::Code::Unavailable => {
                        bail!("{endpoint}: {}", status.message())
                    }
                    Err(status) => Ok(Err(anyhow!("{}", status.message()))),
                }
            };
            match tokio::time::timeout(self.call, attempt).await {
                Ok(Ok(answer)) => return answer,
                Ok(Err(error)) => last = error,
                Err(_) => last = anyhow!("{endpoint}: context deadline exceeded"),
            }
        }
        Err(last)
    }

    async fn connect(&self, endpoint: &str) -> Result<Channel> {
        let config = Arc::clone(&self.config);
        let connector = tower::service_fn(move |uri: Uri| open(uri, Arc::clone(&config)));
        // The connector speaks TLS itself; tonic must not think that it should.
        let plain = endpoint.replacen("https://", "http://", 1);
        let channel = Endpoint::from_shared(plain)?
            .connect_timeout(self.call)
            .connect_with_connector(connector)
            .await;
        channel.with_context(|| format!("connect to {endpoint}"))
    }
}

async fn open(
    uri: Uri,
    config: Arc<rustls::ClientConfig>,
) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
    let host = uri.host().unwrap_or_default().to_owned();
    let stream = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(2379))).await?;
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    Ok(TokioIo::new(
        TlsConnector::from(config).connect(name, stream).await?,
    ))
}
