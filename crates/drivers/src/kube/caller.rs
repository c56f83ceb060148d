//! Requests to the API of one cluster: a credential, a connection from a small pool,
//! a deadline, and the few repetitions that can do no harm. Nothing is retried after
//! an answer: 429 and 5xx are answers, and when to try again is decided elsewhere.

use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::{Method, Request};
use secrecy::ExposeSecret as _;
use serde_json::Value;

use super::route::{Route, Session};
use super::wire::{Fault, Lines, Reply, Wire};

/// Longest wait for the reply to one request. The API server itself gives up
/// after 60 s (`--request-timeout`); admission webhooks take up to 10 s each.
const REPLY_LIMIT: Duration = Duration::from_secs(30);
/// Longest wait for the answer to `/readyz`.
const READY_LIMIT: Duration = Duration::from_secs(5);
/// Idle connections that are kept. Applies run in few lanes; a burst opens more and
/// closes them again.
const IDLE_MAX: usize = 8;
/// How often one request may move on to another connection.
const MOVES_MAX: usize = 2;

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// Path with query.
    pub(crate) path: String,
    /// `Content-Type`, for requests with a body.
    pub(crate) content_type: &'static str,
    /// Body; may hold Secrets.
    pub(crate) body: Option<String>,
}

impl Call {
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            content_type: "application/json",
            body: None,
        }
    }

    pub(crate) fn with_body(
        method: Method,
        path: impl Into<String>,
        content_type: &'static str,
        body: &Value,
    ) -> Self {
        Self {
            method,
            path: path.into(),
            content_type,
            body: Some(body.to_string()),
        }
    }

    /// Asking changes nothing, so it may be asked again.
    fn only_asks(&self) -> bool {
        self.method == Method::GET
    }

    fn request(&self, session: &Session) -> Result<Request<String>, Fault> {
        let mut builder = Request::builder()
            .method(self.method.clone())
            .uri(&self.path)
            // HTTP/1.1 wants one; the API server does not look at it.
            .header("host", "kubernetes")
            .header("accept", "application/json")
            .header("user-agent", concat!("trueup/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = &session.credential.token {
            builder = builder.header("authorization", format!("Bearer {}", token.expose_secret()));
        }
        if self.body.is_some() {
            builder = builder.header("content-type", self.content_type);
        }
        builder
            .body(self.body.clone().unwrap_or_default())
            .map_err(|error| Fault::NotSent(format!("the request cannot be made: {error}")))
    }
}

/// The API of one cluster, as requests and replies.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) route: Route,
    idle: Mutex<Vec<Wire>>,
}

impl Caller {
    pub(crate) fn new(route: Route) -> Self {
        Self {
            route,
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Ask or tell. A request that certainly did not leave goes to the next server;
    /// one whose reply is lost is repeated only if it merely asks; a 401 is repeated
    /// once with a fresh credential.
    pub(crate) async fn call(&self, call: &Call) -> Result<Reply, Fault> {
        let mut session = self.route.session(None).await?;
        let mut asked_again = false;
        let mut moved = 0;
        loop {
            let request = call.request(&session)?;
            let mut wire = self.wire(&session).await?;
            let target = wire.target;
            match wire.exchange(request, REPLY_LIMIT).await {
                Ok(reply) if reply.code == 401 && !asked_again => {
                    asked_again = true;
                    session = self.refreshed(&session).await?;
                }
                Ok(reply) => {
                    // k3s answers so while its API server starts; another may be up.
                    if reply.code == 503 {
                        self.route.turn_from(target);
                        if call.only_asks() && moved < MOVES_MAX && self.route.targets() > 1 {
                            moved += 1;
                            continue;
                        }
                    }
                    self.keep(wire);
                    return Ok(reply);
                }
                // A connection from the pool may have been closed meanwhile.
                Err(fault @ (Fault::NotSent(_) | Fault::Lost(_))) => {
                    let harmless = matches!(fault, Fault::NotSent(_)) || call.only_asks();
                    self.forget(target);
                    if matches!(fault, Fault::Lost(_)) {
                        self.route.turn_from(target);
                    }
                    if !harmless || moved >= MOVES_MAX {
                        return Err(fault);
                    }
                    moved += 1;
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    /// A reply that is a stream of lines, on a connection of its own.
    pub(crate) async fn lines(&self, call: &Call) -> Result<Result<Lines, Reply>, Fault> {
        let session = self.route.session(None).await?;
        let opened = self.lines_with(call, &session).await?;
        match opened {
            Err(reply) if reply.code == 401 => {
                let session = self.refreshed(&session).await?;
                self.lines_with(call, &session).await
            }
            other => Ok(other),
        }
    }

    async fn lines_with(
        &self,
        call: &Call,
        session: &Session,
    ) -> Result<Result<Lines, Reply>, Fault> {
        let wire = self.route.connect(session).await?;
        let target = wire.target;
        let opened = wire.stream(call.request(session)?, REPLY_LIMIT).await;
        let failed = match &opened {
            Err(_) => true,
            Ok(Err(reply)) => reply.code == 503,
            Ok(Ok(_)) => false,
        };
        if failed {
            self.route.turn_from(target);
        }
        opened
    }

    /// Ask one server, by a fresh connection.
    pub(crate) async fn ask_server(&self, target: usize, call: &Call) -> Result<Reply, Fault> {
        let session = self.route.session(None).await?;
        let mut wire = self.route.connect_to(target, &session).await?;
        let reply = wire.exchange(call.request(&session)?, READY_LIMIT).await?;
        if reply.code != 401 {
            return Ok(reply);
        }
        let session = self.refreshed(&session).await?;
        let mut wire = self.route.connect_to(target, &session).await?;
        wire.exchange(call.request(&session)?, READY_LIMIT).await
    }

    /// The credential, read again because a server refused it.
    async fn refreshed(&self, refused: &Session) -> Result<Session, Fault> {
        let fresh = self.route.session(Some(refused.generation)).await?;
        if fresh.generation == refused.generation {
            return Err(Fault::Credential(
                "the API server refuses it (401), and reading it again gave the same".to_owned(),
            ));
        }
        Ok(fresh)
    }

    /// A connection: an idle one, else a new one. A new one may fail because the
    /// cluster's certificate authority changed: then the credential is read again.
    async fn wire(&self, session: &Session) -> Result<Wire, Fault> {
        {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain(|wire| wire.is_usable() && wire.generation == session.generation);
            if let Some(wire) = idle.pop() {
                return Ok(wire);
            }
        }
        match self.route.connect(session).await {
            Err(Fault::NotSent(why)) if why.contains("TLS: invalid peer certificate") => {
                let fresh = self.route.session(Some(session.generation)).await?;
                if fresh.generation == session.generation {
                    return Err(Fault::NotSent(why));
                }
                self.route.connect(&fresh).await
            }
            other => other,
        }
    }

    fn keep(&self, wire: Wire) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(wire);
        }
    }

    /// Drop the idle connections to a server that just failed.
    fn forget(&self, target: usize) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|wire| wire.target != target);
    }
}
