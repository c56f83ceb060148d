//! Asks another server's supervisor: what a joining server and an agent do first (clientaccess/token.go, checked).

use std::time::Duration;

use anyhow::{Result, bail};
use reqwest::{Client, StatusCode};

use crate::token::Token;

/// One request (15 s in k3s).
const CALL: Duration = Duration::from_secs(15);
/// Longest answer that is read.
const BODY_MAX: usize = 4 << 20;

/// Which of the two users asks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum User {
    Server,
    Node,
}

/// Who asks: by password, or by the certificate of an earlier start.
#[derive(Clone, Debug)]
pub(crate) enum Credential {
    Password(User),
    Certificate(String),
}

/// A cluster whose CA was checked against the token.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    base: String,
    token: Token,
    client: Client,
    /// The cluster's CA file, as it was served.
    pub(crate) ca_pem: String,
}

impl Remote {
    /// Fetches the CA without trusting anybody, and trusts it when the token's hash fits or there is none.
    pub(crate) async fn connect(base: &str, token: &Token) -> Result<Self> {
        let base = base.trim_end_matches('/').to_owned();
        if !base.starts_with("https://") {
            bail!("server URL must be HTTPS: {base}");
        }
        let blind = builder().tls_danger_accept_invalid_certs(true).build()?;
        let answer = blind.get(format!("{base}/cacerts")).send().await;
        let ca_pem = match answer.and_then(reqwest::Response::error_for_status) {
            Ok(answer) => text(answer).await?,
            Err(error) => bail!("failed to get CA certs: {}", cause(&error)),
        };
        token
            .check_ca(ca_pem.as_bytes())
            .map_err(anyhow::Error::msg)?;
        let client = builder().tls_certs_only(roots(&ca_pem)?).build()?;
        Ok(Self {
            base,
            token: token.clone(),
            client,
            ca_pem,
        })
    }

    /// Reads a path. Refusals are `not authorized` (401) and `forbidden: …` (403), other answers their message.
    pub(crate) async fn get(
        &self,
        path: &str,
        credential: &Credential,
        headers: &[(&str, &str)],
    ) -> Result<String> {
        let url = format!("{}{path}", self.base);
        let mut request = match credential {
            Credential::Password(user) => {
                let user = match user {
                    User::Server => "server",
                    User::Node => "node",
                };
                self.client
                    .get(url)
                    .basic_auth(user, Some(&self.token.password))
            }
            Credential::Certificate(pem) => {
                let identity = reqwest::Identity::from_pem(pem.as_bytes())?;
                builder()
                    .tls_certs_only(roots(&self.ca_pem)?)
                    .identity(identity)
                    .build()?
                    .get(url)
            }
        };
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request
            .send()
            .await
            .map_err(|error| anyhow::anyhow!("{}", cause(&error)))?;
        let status = answer.status();
        let body = text(answer).await?;
        let message = || {
            serde_json::from_str::<serde_json::Value>(&body)
                .ok()
                .and_then(|value| {
                    value
                        .get("message")
                        .and_then(serde_json::Value::as_str)
                        .map(str::to_owned)
                })
                .unwrap_or_else(|| status.to_string())
        };
        match status {
            StatusCode::UNAUTHORIZED => bail!("not authorized"),
            StatusCode::FORBIDDEN => bail!("forbidden: {}", message()),
            status if status.is_success() => Ok(body),
            _ => bail!("{}", message()),
        }
    }
}

fn builder() -> reqwest::ClientBuilder {
    Client::builder()
        .connect_timeout(Duration::from_secs(5))
        .timeout(CALL)
        .no_proxy()
}

fn roots(pem: &str) -> Result<Vec<reqwest::Certificate>> {
    Ok(reqwest::Certificate::from_pem_bundle(pem.as_bytes())?)
}

async fn text(answer: reqwest::Response) -> Result<String> {
    if answer
        .content_length()
        .is_some_and(|length| length > BODY_MAX as u64)
    {
        bail!("the answer is longer than {BODY_MAX} bytes");
    }
    Ok(answer.text().await?)
}

/// The innermost causes, because reqwest's own message names only the URL.
pub(crate) fn cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut inner = error.source();
    while let Some(error) = inner {
        text = format!("{text}: {error}");
        inner = error.source();
    }
    text
}
