//! A small client of the Kubernetes API: JSON over REST, which is all that the node part needs.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::{Buf as _, BytesMut};
use futures::StreamExt as _;
use reqwest::{Client, Identity, Method, StatusCode};
use serde_json::Value;

/// One request, headers and body.
const CALL: Duration = Duration::from_secs(5);
/// Longest answer that is read.
const BODY_MAX: usize = 32 << 20;
/// A watch is ended by the server after this many seconds and then begun again.
const WATCH_S: u64 = 240;
/// A watch without any event or bookmark for this long is taken for dead; a lost machine sends no FIN.
const WATCH_IDLE: Duration = Duration::from_secs(90);

/// How a patch is to be read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patch {
    Merge,
    Strategic,
}

/// What the API answered: the object, or the status of a refusal.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {}", self.status, self.message)
    }
}

impl std::error::Error for Refused {}

/// Whether an error is the API's answer with that status.
pub(crate) fn refused_with(error: &anyhow::Error, status: StatusCode) -> bool {
    error
        .downcast_ref::<Refused>()
        .is_some_and(|refused| refused.status == status)
}

/// A client with one identity against one address.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    base: String,
    client: Client,
}

impl Api {
    /// With a client certificate, trusting `ca` only.
    pub(crate) fn new(base: &str, ca: &Path, certificate: &Path, key: &Path) -> Result<Self> {
        let mut identity = crate::layout::read(certificate)?;
        identity.push_str(&crate::layout::read(key)?);
        let roots = reqwest::Certificate::from_pem_bundle(crate::layout::read(ca)?.as_bytes())?;
        let client = Client::builder()
            .tls_certs_only(roots)
            .identity(Identity::from_pem(identity.as_bytes())?)
            .connect_timeout(Duration::from_secs(3))
            .no_proxy()
            .build()
            .context("build the client of the API")?;
        Ok(Self {
            base: base.to_owned(),
            client,
        })
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<Value> {
        let mut request = self
            .client
            .request(method, format!("{}{path}", self.base))
            .timeout(CALL);
        if let Some((kind, body)) = body {
            request = request
                .header("content-type", kind)
                .body(serde_json::to_vec(body)?);
        }
        let answer = request.send().await?;
        let status = answer.status();
        if answer
            .content_length()
            .is_some_and(|length| length > BODY_MAX as u64)
        {
            bail!("{path}: the answer is longer than {BODY_MAX} bytes");
        }
        let bytes = answer.bytes().await?;
        let value = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        if status.is_success() {
            return Ok(value);
        }
        let message = value
            .get("message")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        Err(Refused { status, message }.into())
    }

    /// Reads an object or a list; none when there is no such thing.
    pub(crate) async fn get(&self, path: &str) -> Result<Option<Value>> {
        match self.call(Method::GET, path, None).await {
            Ok(value) => Ok(Some(value)),
            Err(error) if refused_with(&error, StatusCode::NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates an object; false when it exists already.
    pub(crate) async fn create(&self, path: &str, object: &Value) -> Result<bool> {
        match self
            .call(Method::POST, path, Some(("application/json", object)))
            .await
        {
            Ok(_) => Ok(true),
            Err(error) if refused_with(&error, StatusCode::CONFLICT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Patches an object.
    pub(crate) async fn patch(&self, path: &str, kind: Patch, patch: &Value) -> Result<Value> {
        let kind = match kind {
            Patch::Merge => "application/merge-patch+json",
            Patch::Strategic => "application/strategic-merge-patch+json",
        };
        self.call(Method::PATCH, path, Some((kind, patch))).await
    }

    /// Deletes an object; one that is gone already is no error.
    pub(crate) async fn delete(&self, path: &str, options: &Value) -> Result<()> {
        match self
            .call(Method::DELETE, path, Some(("application/json", options)))
            .await
        {
            Err(error) if !refused_with(&error, StatusCode::NOT_FOUND) => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether /readyz answers 200.
    pub(crate) async fn ready(&self) -> bool {
        self.call(Method::GET, "/readyz", None).await.is_ok()
    }

    /// Watches `path` (with its own query) from a resource version on and hands each event to `each` until the watch
    /// ends. An `ERROR` event is an error: the caller lists again.
    pub(crate) async fn watch(
        &self,
        path: &str,
        version: &str,
        mut each: impl FnMut(Value),
    ) -> Result<()> {
        let url = format!(
            "{}{path}&watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_S}&resourceVersion={version}",
            self.base
        );
        let answer = tokio::time::timeout(CALL, self.client.get(url).send())
            .await
            .context("open a watch")??;
        let answer = answer.error_for_status()?;
        let mut stream = answer.bytes_stream();
        let mut buffer = BytesMut::new();
        while let Some(chunk) = tokio::time::timeout(WATCH_IDLE, stream.next())
            .await
            .context("watch is silent")?
        {
            buffer.extend_from_slice(&chunk?);
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line = buffer.split_to(end);
                buffer.advance(1);
                let event: Value = serde_json::from_slice(&line)?;
                if event.get("type").and_then(Value::as_str) == Some("ERROR") {
                    bail!(
                        "watch ended: {}",
                        event.get("object").unwrap_or(&Value::Null)
                    );
                }
                each(event);
            }
            if buffer.len() > BODY_MAX {
                bail!("a watch event is longer than {BODY_MAX} bytes");
            }
        }
        Ok(())
    }
}

/// The text at a JSON pointer, empty when there is none.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Sets one key of a JSON object; anything else stays as it is.
pub(crate) fn set(object: &mut Value, key: &str, value: impl Into<Value>) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), value.into());
    }
}
