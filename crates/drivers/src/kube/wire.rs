//! One HTTP/1.1 connection to an API server, over any byte stream. It says of a
//! failed request whether it left or may have been carried out: that difference
//! decides whether a write may be repeated.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body as _, Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

/// Largest reply that is read whole. A page of 500 objects of etcd's limit
/// (1.5 MiB each) would not fit, but pages are of ordinary objects.
const REPLY_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Largest event of a watch: etcd refuses objects over 1.5 MiB; JSON with managed
/// fields can be some times that.
const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why a request has no reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It never left: nothing happened.
    NotSent(String),
    /// It left, and the reply is missing: it may have been carried out.
    Lost(String),
    /// No credential, or the one that there is is refused.
    Credential(String),
}

impl Fault {
    pub(crate) fn why(&self) -> &str {
        match self {
            Self::NotSent(why) | Self::Lost(why) | Self::Credential(why) => why,
        }
    }
}

/// A reply, read whole.
#[derive(Debug)]
pub(crate) struct Reply {
    /// HTTP status.
    pub(crate) code: u16,
    /// Body; may hold Secrets, so it is never logged.
    pub(crate) body: Vec<u8>,
}

/// An open connection, free for one request at a time.
#[derive(Debug)]
pub(crate) struct Wire {
    sender: SendRequest<String>,
    /// Which of the route's targets it leads to.
    pub(crate) target: usize,
    /// Generation of the credential that it was opened with.
    pub(crate) generation: u64,
}

/// TLS and HTTP over a stream. Ends with an error as text for the route's list of
/// what was tried.
pub(crate) async fn open<S>(
    stream: S,
    tls: Arc<ClientConfig>,
    name: ServerName<'static>,
    target: usize,
    generation: u64,
) -> Result<Wire, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let stream = tokio_rustls::TlsConnector::from(tls)
        .connect(name, stream)
        .await
        .map_err(|error| format!("TLS: {error}"))?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| format!("HTTP: {error}"))?;
    // The task ends with the connection: when the sender is dropped or the peer goes.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to an API server ended");
        }
    });
    Ok(Wire {
        sender,
        target,
        generation,
    })
}

impl Wire {
    /// False once the peer closed it.
    pub(crate) fn is_usable(&self) -> bool {
        self.sender.is_ready() && !self.sender.is_closed()
    }

    /// Send; the reply's head within `limit`.
    async fn send(
        &mut self,
        request: http::Request<String>,
        limit: Duration,
    ) -> Result<http::Response<Incoming>, Fault> {
        match timeout(limit, self.sender.try_send_request(request)).await {
            Ok(Ok(response)) => Ok(response),
            // hyper gives the request back if it wrote nothing of it.
            Ok(Err(mut error)) => {
                let why = chain(error.error());
                Err(match error.take_message() {
                    Some(_) => Fault::NotSent(why),
                    None => Fault::Lost(why),
                })
            }
            Err(_) => Err(Fault::Lost(format!(
                "no reply within {} s",
                limit.as_secs()
            ))),
        }
    }

    /// A request and its whole reply within `limit`.
    pub(crate) async fn exchange(
        &mut self,
        request: http::Request<String>,
        limit: Duration,
    ) -> Result<Reply, Fault> {
        let response = self.send(request, limit).await?;
        let code = response.status().as_u16();
        let read = timeout(limit, read_all(response.into_body())).await;
        match read {
            Ok(body) => Ok(Reply { code, body: body? }),
            Err(_) => Err(Fault::Lost(format!(
                "the reply did not end within {} s",
                limit.as_secs()
            ))),
        }
    }

    /// A request whose reply is a stream of lines. Uses the connection up.
    pub(crate) async fn stream(
        mut self,
        request: http::Request<String>,
        limit: Duration,
    ) -> Result<Result<Lines, Reply>, Fault> {
        let response = self.send(request, limit).await?;
        let code = response.status().as_u16();
        if code == 200 {
            return Ok(Ok(Lines {
                _wire: self,
                body: response.into_body(),
                buffer: Vec::new(),
                start: 0,
                searched: 0,
            }));
        }
        let body = timeout(limit, read_all(response.into_body()))
            .await
            .map_err(|_| Fault::Lost("the reply did not end in time".to_owned()))??;
        Ok(Err(Reply { code, body }))
    }
}

/// The lines of an endless reply.
#[derive(Debug)]
pub(crate) struct Lines {
    /// Kept: dropping the sender would end the connection.
    _wire: Wire,
    body: Incoming,
    buffer: Vec<u8>,
    /// Where the next line begins in the buffer.
    start: usize,
    /// How far the buffer is known to hold no further line end.
    searched: usize,
}

impl Lines {
    /// The next line without its end; `None` at the end of the stream. A stream that
    /// is cut between lines ends, too: the caller resumes from what it has.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        loop {
            let fresh = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(at) = fresh.iter().position(|byte| *byte == b'\n') {
                let end = self.searched + at;
                let line = self
                    .buffer
                    .get(self.start..end)
                    .unwrap_or_default()
                    .to_vec();
                self.start = end + 1;
                self.searched = self.start;
                return Ok(Some(line));
            }
            // What was handed out goes before more comes in.
            self.buffer.drain(..self.start);
            self.start = 0;
            self.searched = self.buffer.len();
            if self.searched > LINE_BYTES_MAX {
                return Err(Fault::Lost(format!(
                    "an event is larger than {LINE_BYTES_MAX} bytes"
                )));
            }
            match next_chunk(&mut self.body).await? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }
}

async fn next_chunk(body: &mut Incoming) -> Result<Option<Bytes>, Fault> {
    loop {
        let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
        match frame {
            None => return Ok(None),
            Some(Err(error)) => return Err(Fault::Lost(chain(&error))),
            // Trailers carry nothing for us.
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

async fn read_all(mut body: Incoming) -> Result<Vec<u8>, Fault> {
    let mut whole = Vec::new();
    while let Some(chunk) = next_chunk(&mut body).await? {
        if whole.len() + chunk.len() > REPLY_BYTES_MAX {
            return Err(Fault::Lost(format!(
                "the reply is larger than {REPLY_BYTES_MAX} bytes"
            )));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole)
}

/// An error with its sources: hyper's own text says only "connection error".
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
