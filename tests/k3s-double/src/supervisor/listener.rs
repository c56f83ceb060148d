//! Accepts TLS connections on 6443 and serves HTTP/1.1 on each.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::fault;
use super::proxy::{self, Body};
use super::routes;
use super::state::{Caller, State};
use crate::{log, tls};

/// A client that does not finish its TLS handshake or its header in this time is dropped.
const PATIENCE: Duration = Duration::from_secs(10);

/// Opens the port and serves until the process ends. Returns once it is open.
pub(crate) async fn serve(state: Rc<State>, address: SocketAddr) -> Result<()> {
    let config = tls::server_config(
        &state.layout.tls("serving-kube-apiserver.crt"),
        &state.layout.tls("serving-kube-apiserver.key"),
    )?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("listen tcp {address}"))?;
    tokio::task::spawn_local(async move {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let connection = connection(Rc::clone(&state), acceptor.clone(), stream, peer);
                    tokio::task::spawn_local(connection);
                }
                Err(error) => {
                    // Out of file descriptors, most likely: others must end first.
                    log::warn(format!("accept on {address}: {error}"));
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(())
}

async fn connection(state: Rc<State>, acceptor: TlsAcceptor, stream: TcpStream, peer: SocketAddr) {
    drop(stream.set_nodelay(true));
    let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await else {
        return;
    };
    let caller = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| state.caller(chain));
    let service = service_fn(move |request| {
        let (state, caller) = (Rc::clone(&state), caller.clone());
        async move { Ok::<_, Infallible>(answer(&state, caller, peer, request).await) }
    });
    // A client that goes away in mid-answer is its own affair.
    drop(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(300))
            .serve_connection(TokioIo::new(stream), service)
            .await,
    );
}

async fn answer(
    state: &State,
    caller: Option<Caller>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Response<Body> {
    let path = request.uri().path();
    if path == "/ping"
        || path == "/cacerts"
        || path.starts_with("/v1-k3s/")
        || path.starts_with("/db/")
    {
        return routes::answer(state, caller, peer, request).await;
    }
    if !state.api_ready.get() {
        return proxy::status(503, "apiserver not ready");
    }
    if let Some(code) = fault::asked(path) {
        return proxy::status(code, "the test asked for this answer");
    }
    if path == "/version" && caller.is_some() {
        return routes::version(state).await;
    }
    state.upstream.forward(caller, request).await
}
