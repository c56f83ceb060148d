//! Passes requests to kube-apiserver and streams both ways, so that watches flow.
//!
//! A caller with a certificate is passed on by front-proxy headers (X-Remote-User, X-Remote-Group) under the
//! request-header CA; every other request goes on as it is, without our certificate, so that bearer tokens count.

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use futures::StreamExt as _;
use http::header::{CONNECTION, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyDataStream, BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::json;

use super::state::Caller;
use crate::control_plane::APISERVER;
use crate::layout::{self, Layout};
use crate::{log, remote};

/// Body of every answer.
pub(super) type Body = UnsyncBoxBody<Bytes, reqwest::Error>;

/// kube-apiserver ends a plain request after 60 s itself; a watch sends its headers at once.
const HEADERS: Duration = Duration::from_secs(70);

/// The two ways to kube-apiserver.
pub(crate) struct Upstream {
    named: reqwest::Client,
    plain: reqwest::Client,
}

impl Upstream {
    pub(super) fn new(layout: &Layout) -> Result<Self> {
        let roots = reqwest::Certificate::from_pem_bundle(
            layout::read(&layout.tls("server-ca.crt"))?.as_bytes(),
        )?;
        let mut pair = layout::read(&layout.tls("client-auth-proxy.crt"))?;
        pair.push_str(&layout::read(&layout.tls("client-auth-proxy.key"))?);
        let builder = || {
            reqwest::Client::builder()
                .tls_certs_only(roots.clone())
                .connect_timeout(Duration::from_secs(3))
                .redirect(reqwest::redirect::Policy::none())
                .pool_max_idle_per_host(64)
                .no_proxy()
        };
        let identity = reqwest::Identity::from_pem(pair.as_bytes())?;
        Ok(Self {
            named: builder().identity(identity).build()?,
            plain: builder().build()?,
        })
    }

    pub(super) async fn forward(
        &self,
        caller: Option<Caller>,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let target = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut headers = forwarded(&parts.headers);
        let client = match caller.as_ref().and_then(identity_headers) {
            Some(identity) => {
                headers.remove(http::header::AUTHORIZATION);
                headers.extend(identity);
                &self.named
            }
            None => &self.plain,
        };
        let mut onward = client
            .request(parts.method, format!("{APISERVER}{target}"))
            .headers(headers);
        if !hyper::body::Body::is_end_stream(&body) {
            onward = onward.body(reqwest::Body::wrap_stream(BodyDataStream::new(body)));
        }
        match tokio::time::timeout(HEADERS, onward.send()).await {
            Ok(Ok(answer)) => back(answer),
            Ok(Err(error)) => {
                log::warn(format!("proxy error: {}", remote::cause(&error)));
                status(503, "apiserver not ready")
            }
            Err(_) => status(504, "request did not complete within the allotted timeout"),
        }
    }
}

/// Headers that go on: not those of this connection, and never an identity that the caller claims.
fn forwarded(headers: &HeaderMap) -> HeaderMap {
    headers
        .iter()
        .filter(|(name, _)| {
            **name != HOST
                && **name != CONNECTION
                && **name != TRANSFER_ENCODING
                && **name != UPGRADE
        })
        .filter(|(name, _)| !name.as_str().starts_with("x-remote-"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn identity_headers(caller: &Caller) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(
        HeaderName::from_static("x-remote-user"),
        HeaderValue::from_str(&caller.user).ok()?,
    );
    for group in &caller.groups {
        headers.append(
            HeaderName::from_static("x-remote-group"),
            HeaderValue::from_str(group).ok()?,
        );
    }
    Some(headers)
}

fn back(answer: reqwest::Response) -> Response<Body> {
    let mut response = Response::new(());
    *response.status_mut() = answer.status();
    *response.headers_mut() = forwarded(answer.headers());
    let stream = StreamBody::new(answer.bytes_stream().map(|chunk| chunk.map(Frame::data)));
    response.map(|()| stream.boxed_unsync())
}

/// An answer with a whole body.
pub(super) fn whole(code: u16, kind: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(
        Full::new(body.into())
            .map_err(|never| match never {})
            .boxed_unsync(),
    );
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// A refusal in the API's form.
pub(super) fn status(code: u16, message: &str) -> Response<Body> {
    let reason = match code {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "InternalError",
    };
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {},
        "status": "Failure", "message": message, "reason": reason, "code": code,
    });
    whole(code, "application/json", body.to_string())
}
