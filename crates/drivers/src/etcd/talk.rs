//! One gRPC connection to one member.

use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio_util::compat::FuturesAsyncReadCompatExt as _;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;
use trueup_model::port::ByteStream;

use super::message::{
    Alarm, AlarmRequest, AlarmResponse, Member, MemberListRequest, MemberListResponse,
    StatusRequest, StatusResponse,
};

/// Largest answer: some thousand members would fit.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// What is asked on a connection, which it uses up.
pub(super) type Question<T> = dyn Fn(Talk) -> BoxFuture<'static, Result<T, String>> + Send + Sync;

/// A connection. It serves one look and is dropped.
#[derive(Debug)]
pub(super) struct Talk {
    grpc: Grpc<Channel>,
}

impl Talk {
    /// TLS and HTTP/2 over a stream.
    pub(super) async fn open(
        stream: Box<dyn ByteStream>,
        tls: Arc<ClientConfig>,
    ) -> Result<Self, String> {
        // k3s has loopback in the SANs of etcd's server certificate.
        let name = ServerName::try_from("127.0.0.1").map_err(|error| error.to_string())?;
        let stream = tokio_rustls::TlsConnector::from(tls)
            .connect(name, stream.compat())
            .await
            .map_err(|error| format!("TLS: {error}"))?;
        // tonic asks for a connector because it likes to reconnect; a look does not.
        let once = Mutex::new(Some(TokioIo::new(stream)));
        let connector = tower::service_fn(move |_| {
            let taken = once.lock().unwrap_or_else(PoisonError::into_inner).take();
            std::future::ready(
                taken.ok_or_else(|| std::io::Error::other("the connection is used up")),
            )
        });
        let channel = Endpoint::from_static("http://127.0.0.1:2379")
            .connect_with_connector(connector)
            .await
            .map_err(|error| chain(&error))?;
        let grpc = Grpc::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        Ok(Self { grpc })
    }

    async fn unary<Q, A>(mut self, path: &'static str, question: Q) -> Result<A, String>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        self.grpc.ready().await.map_err(|error| chain(&error))?;
        let answer = self
            .grpc
            .unary(
                tonic::Request::new(question),
                PathAndQuery::from_static(path),
                ProstCodec::<Q, A>::default(),
            )
            .await
            .map_err(|status| format!("{:?}: {}", status.code(), status.message()))?;
        Ok(answer.into_inner())
    }

    /// The members; with `linearizable` only if a quorum agrees.
    pub(super) async fn member_list(self, linearizable: bool) -> Result<Vec<Member>, String> {
        let question = MemberListRequest { linearizable };
        let answer: MemberListResponse = self
            .unary("/etcdserverpb.Cluster/MemberList", question)
            .await?;
        Ok(answer.members)
    }

    /// What this member says of itself.
    pub(super) async fn status(self) -> Result<StatusResponse, String> {
        self.unary("/etcdserverpb.Maintenance/Status", StatusRequest {})
            .await
    }

    /// Raised alarms of all members.
    pub(super) async fn alarms(self) -> Result<Vec<Alarm>, String> {
        let answer: AlarmResponse = self
            .unary("/etcdserverpb.Maintenance/Alarm", AlarmRequest {})
            .await?;
        Ok(answer.alarms)
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}
