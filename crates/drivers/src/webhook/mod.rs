//! Webhooks: a forge says that something was pushed. Nothing of what it sends is
//! used; it only wakes the loop, which then asks the repository itself.
//!
//! Anybody may connect, so everything is bounded: connections, the time of each, its
//! head and its body. Whoever cannot sign learns nothing but that.

mod signature;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use secrecy::SecretString;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};

/// A push of many commits is some hundred KiB; Gitea sends at most some commits.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Head of a request: a few KiB at forges. The smallest that hyper takes is 8 KiB.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// A forge sends its head at once.
const HEAD_LIMIT: Duration = Duration::from_secs(5);
/// A whole connection, for one request.
const CONNECTION_LIMIT: Duration = Duration::from_secs(15);
/// At the same time; more wait in the system's queue. A forge sends one after another.
const CONNECTIONS_MAX: usize = 32;
/// After a failure of `accept`: out of file descriptors, for example.
const PAUSE: Duration = Duration::from_secs(1);

/// Where events are named.
const EVENTS: &[&str] = &["x-gitea-event", "x-forgejo-event", "x-github-event"];

/// Listens for webhooks.
#[derive(Debug)]
pub struct Receiver {
    listener: TcpListener,
    door: Arc<Door>,
}

#[derive(Debug)]
struct Door {
    path: String,
    secret: SecretString,
    pushed: Arc<Notify>,
    limit: Duration,
}

impl Receiver {
    /// Opens the port. `pushed` is told of every push that is signed with `secret`.
    pub async fn bind(
        listen: SocketAddr,
        path: &str,
        secret: SecretString,
        pushed: Arc<Notify>,
    ) -> io::Result<Self> {
        let door = Door {
            path: path.to_owned(),
            secret,
            pushed,
            limit: CONNECTION_LIMIT,
        };
        Ok(Self {
            listener: TcpListener::bind(listen).await?,
            door: Arc::new(door),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves for ever.
    pub async fn serve(self) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let door = Arc::clone(&self.door);
                    tokio::spawn(async move {
                        let limit = door.limit;
                        let served = tokio::time::timeout(limit, connection(door, stream)).await;
                        if served.is_err() {
                            tracing::debug!("a webhook took too long");
                        }
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the webhook's port does not accept");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// One connection, one request: what stays open costs a slot.
async fn connection(door: Arc<Door>, stream: TcpStream) {
    let service = service_fn(move |request| {
        let door = Arc::clone(&door);
        async move {
            let code = answer(&door, request).await;
            let mut response = Response::new(Empty::<Bytes>::new());
            *response.status_mut() = code;
            let close = http::HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(false);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a webhook's connection ended");
    }
}

async fn answer(door: &Door, request: Request<Incoming>) -> StatusCode {
    if request.uri().path() != door.path {
        return StatusCode::NOT_FOUND;
    }
    if request.method() != Method::POST {
        return StatusCode::METHOD_NOT_ALLOWED;
    }
    // Refused by what it announces, before a byte of it is read.
    let most = u64::try_from(BODY_BYTES_MAX).unwrap_or(u64::MAX);
    if request.body().size_hint().lower() > most {
        return StatusCode::PAYLOAD_TOO_LARGE;
    }
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            return StatusCode::PAYLOAD_TOO_LARGE;
        }
        Err(_) => return StatusCode::BAD_REQUEST,
    };
    if !signature::is_right(&door.secret, &head.headers, &body) {
        tracing::warn!("a webhook with a wrong signature; look at its secret and at secretFile");
        return StatusCode::UNAUTHORIZED;
    }
    if is_push(&head.headers) {
        tracing::debug!("a webhook says that something was pushed");
        door.pushed.notify_one();
    }
    StatusCode::NO_CONTENT
}

fn is_push(headers: &HeaderMap) -> bool {
    let events = EVENTS.iter().filter_map(|name| headers.get(*name));
    events.into_iter().any(|event| event.as_bytes() == b"push")
}
