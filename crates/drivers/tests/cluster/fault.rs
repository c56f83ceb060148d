//! An API server that answers badly, or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use trueup_bed::control::ControlPlane;
use trueup_model::port::{ApplyRefusal, ClusterApi as _, ClusterError, Force};

use crate::pki::Authority;
use crate::shell::LoopbackShell;
use crate::stage::{Stage, api, config_map, kind, prepared, reference, within};

const SOON: Duration = Duration::from_secs(60);

/// Passes bytes to the API server and back; can swallow what comes back, or end.
pub struct Proxy {
    pub port: u16,
    swallow: Arc<AtomicBool>,
    /// Bytes that came from the server and were swallowed.
    swallowed: Arc<AtomicUsize>,
    cut: watch::Sender<u32>,
}

impl Proxy {
    pub async fn start(plane: &ControlPlane) -> Self {
        let to: u16 = plane
            .server_url()
            .rsplit(':')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            swallow: Arc::default(),
            swallowed: Arc::default(),
            cut: watch::Sender::new(0),
        };
        let (swallow, swallowed) = (Arc::clone(&proxy.swallow), Arc::clone(&proxy.swallowed));
        let cut = proxy.cut.subscribe();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (swallow, swallowed) = (Arc::clone(&swallow), Arc::clone(&swallowed));
                let mut cut = cut.clone();
                cut.mark_unchanged();
                tokio::spawn(async move {
                    let server = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                    tokio::select! {
                        _ = pass(client, server, &swallow, &swallowed) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        proxy
    }

    /// End every connection.
    pub fn cut(&self) {
        self.cut.send_modify(|count| *count += 1);
    }
}

async fn pass(client: TcpStream, server: TcpStream, swallow: &AtomicBool, swallowed: &AtomicUsize) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async {
        tokio::io::copy(&mut from_client, &mut to_server)
            .await
            .map(drop)
    };
    let down = async {
        let mut buffer = vec![0; 65_536];
        loop {
            let count = from_server.read(&mut buffer).await?;
            if count == 0 {
                return std::io::Result::Ok(());
            }
            if swallow.load(Ordering::Relaxed) {
                swallowed.fetch_add(count, Ordering::Relaxed);
            } else {
                to_client.write_all(&buffer[..count]).await?;
            }
        }
    };
    // Either end closing ends both.
    tokio::select! { _ = up => {}, _ = down => {} }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_is_unknown_and_the_effect_is_seen() {
    let stage = Stage::start();
    let proxy = Proxy::start(&stage.plane).await;
    stage.shell.dial_to(proxy.port);
    let kinds = [kind("v1", "ConfigMap")];
    stage.api.facts(&kinds).await.unwrap();
    // One request warms a connection up: a handshake must not be what is swallowed.
    stage.apply(config_map("a", "1")).await;
    proxy.swallow.store(true, Ordering::Relaxed);
    let object = prepared(&config_map("b", "1"));
    let apply = tokio::spawn({
        let api = Arc::clone(&stage.api);
        async move { api.apply(&object, Force::No, false).await }
    });
    let exists = || stage.plane.kubectl(&["get", "configmap/b"]).is_ok();
    within("the server has done it", SOON, async {
        while !exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    proxy.cut();
    let refusal = within("the apply ends", SOON, apply)
        .await
        .unwrap()
        .unwrap_err();
    assert!(matches!(refusal, ApplyRefusal::Unknown(_)), "{refusal:?}");
    assert!(proxy.swallowed.load(Ordering::Relaxed) > 0);
    proxy.swallow.store(false, Ordering::Relaxed);
    let object = reference("v1", "ConfigMap", "default", "b");
    let (facts, _) = stage
        .facts_until("what was done is seen", &kinds, SOON, |facts| {
            facts.objects.contains_key(&object)
        })
        .await;
    // Doing it again is no harm, and creates nothing.
    let again = stage.apply(config_map("b", "1")).await;
    assert_eq!(
        (again.created, &again.uid),
        (false, &facts.objects[&object].uid)
    );
}

/// A server that answers discovery well and every write with `code`; 0: it hangs up
/// after it has read the request.
async fn answering(code: u16, reason: &'static str) -> (LoopbackShell, Arc<AtomicUsize>) {
    let authority = Authority::new();
    let pair = authority.server();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap(),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let writes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&writes);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, writes) = (acceptor.clone(), Arc::clone(&counted));
            tokio::spawn(async move {
                let stream = acceptor.accept(stream).await.unwrap();
                let service = service_fn(|request| {
                    std::future::ready(answer(&request, code, reason, &writes))
                });
                let served = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                // Hanging up is an error on purpose.
                drop(served);
            });
        }
    });
    let config = json!({
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": format!("https://127.0.0.1:{port}"),
            "certificate-authority-data": STANDARD.encode(authority.pem())}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    });
    (LoopbackShell::new(config.to_string().into_bytes()), writes)
}

fn answer(
    request: &hyper::Request<hyper::body::Incoming>,
    code: u16,
    reason: &str,
    writes: &AtomicUsize,
) -> Result<hyper::Response<String>, std::io::Error> {
    let resources = json!({"resources": [
        {"name": "configmaps", "namespaced": true, "kind": "ConfigMap"},
        {"name": "secrets", "namespaced": true, "kind": "Secret"}]});
    let live = json!({"metadata": {"name": "a", "uid": "uid"}});
    if request.method() == "GET" {
        let named = request.uri().path().contains("/namespaces/");
        let found = if named { live } else { resources };
        return Ok(hyper::Response::new(found.to_string()));
    }
    writes.fetch_add(1, Ordering::Relaxed);
    if code == 0 {
        return Err(std::io::Error::other("hang up"));
    }
    let status = json!({"kind": "Status", "code": code, "reason": reason, "message": "canary",
        "details": {"retryAfterSeconds": 1}});
    let response = hyper::Response::builder()
        .status(code)
        .header("retry-after", "1");
    Ok(response.body(status.to_string()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_answers_are_answers_and_nothing_is_repeated() {
    let object = prepared(&config_map("a", "1"));
    let secret =
        prepared(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}}));
    for (code, reason) in [
        (409, "Conflict"),
        (429, "TooManyRequests"),
        (500, "InternalError"),
        (503, "ServiceUnavailable"),
        (504, "Timeout"),
    ] {
        let (shell, writes) = answering(code, reason).await;
        let api = api(vec![("s1", Arc::new(shell))]);
        let refusal = api.apply(&object, Force::No, false).await.unwrap_err();
        assert!(
            matches!(refusal, ApplyRefusal::Later(_)),
            "{code} {refusal:?}"
        );
        assert_eq!(writes.load(Ordering::Relaxed), 1, "{code}");
        let refusal = api.apply(&secret, Force::No, false).await.unwrap_err();
        assert!(!refusal.to_string().contains("canary"), "{refusal}");
        assert!(refusal.to_string().contains(&code.to_string()), "{refusal}");
        let name = reference("v1", "ConfigMap", "default", "a");
        let error = api.delete(&name, "uid").await.unwrap_err();
        assert!(
            matches!(error, ClusterError::Status { .. }),
            "{code} {error}"
        );
    }
    let (shell, writes) = answering(0, "").await;
    let api = api(vec![("s1", Arc::new(shell))]);
    let refusal = api.apply(&object, Force::No, false).await.unwrap_err();
    assert!(matches!(refusal, ApplyRefusal::Unknown(_)), "{refusal:?}");
    assert_eq!(writes.load(Ordering::Relaxed), 1);
    // A dry run that got no reply had no effect.
    let refusal = api.apply(&object, Force::No, true).await.unwrap_err();
    assert!(matches!(refusal, ApplyRefusal::Later(_)), "{refusal:?}");
}
