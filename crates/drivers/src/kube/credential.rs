//! A kubeconfig becomes a credential, in memory only. What would run a program or
//! read another file is refused: the text may come from a machine that is not ours
//! to trust with that.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ClientConfig;
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use serde::Deserialize;
use serde::de::IgnoredAny;
use zeroize::Zeroizing;

use crate::tls::{self, TlsError, Validity};

/// Why a kubeconfig is not a credential. Never holds any of its values.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialFault {
    /// No YAML, or not of a kubeconfig's shape.
    #[error("the kubeconfig cannot be read: {0}")]
    Unreadable(String),
    /// Its current context, that context's cluster or user does not exist.
    #[error("the kubeconfig has no {0}")]
    Missing(String),
    /// An entry that is refused by rule.
    #[error("the kubeconfig's {entry} is refused: {why}")]
    Refused {
        /// The entry as it is written in a kubeconfig.
        entry: &'static str,
        /// Why, and what to write instead.
        why: &'static str,
    },
    /// Certificates or keys.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A value that is not base64.
    #[error("the kubeconfig's {0} is not base64")]
    Base64(&'static str),
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Kubeconfig {
    #[serde(default)]
    current_context: String,
    #[serde(default)]
    clusters: Vec<NamedCluster>,
    #[serde(default)]
    contexts: Vec<NamedContext>,
    #[serde(default)]
    users: Vec<NamedUser>,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: ClusterEntry,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ClusterEntry {
    server: String,
    certificate_authority_data: Option<String>,
    certificate_authority: Option<IgnoredAny>,
    #[serde(default)]
    insecure_skip_tls_verify: bool,
    tls_server_name: Option<String>,
    proxy_url: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: ContextEntry,
}

#[derive(Deserialize)]
struct ContextEntry {
    cluster: String,
    user: String,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    #[serde(default)]
    user: UserEntry,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct UserEntry {
    client_certificate_data: Option<String>,
    client_key_data: Option<SecretString>,
    token: Option<SecretString>,
    exec: Option<IgnoredAny>,
    auth_provider: Option<IgnoredAny>,
    client_certificate: Option<IgnoredAny>,
    client_key: Option<IgnoredAny>,
    #[serde(rename = "tokenFile")]
    token_file: Option<IgnoredAny>,
    username: Option<IgnoredAny>,
    #[serde(rename = "as")]
    act_as: Option<IgnoredAny>,
}

/// What proves to the API server who we are.
pub(crate) struct Credential {
    /// TLS with the cluster's CA and, where there is one, our certificate.
    pub(crate) tls: Arc<ClientConfig>,
    /// Bearer token, where there is one.
    pub(crate) token: Option<SecretString>,
    /// When our certificate is valid.
    pub(crate) validity: Option<Validity>,
    /// Host and port of the kubeconfig's `server`.
    pub(crate) server: (String, u16),
    /// Name to check the server's certificate against, if not the host's.
    pub(crate) tls_name: Option<String>,
    /// Changes when the content changes; never shown.
    pub(crate) fingerprint: [u8; 32],
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential")
            .field("server", &self.server)
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

/// Read a kubeconfig.
pub(crate) fn parse(text: &SecretSlice<u8>) -> Result<Credential, CredentialFault> {
    let bytes = text.expose_secret();
    let source = std::str::from_utf8(bytes)
        .map_err(|_| CredentialFault::Unreadable("it is not UTF-8".to_owned()))?;
    // The parser's own message quotes the text: only the place is passed on.
    let config: Kubeconfig = serde_saphyr::from_str(source).map_err(|error| {
        CredentialFault::Unreadable(error.location().map_or_else(
            || "it does not have the shape of a kubeconfig".to_owned(),
            |place| {
                format!(
                    "it does not have the shape of a kubeconfig, at line {}",
                    place.line()
                )
            },
        ))
    })?;
    let missing = |what: &str, name: &str| CredentialFault::Missing(format!("{what} {name:?}"));
    let context = config
        .contexts
        .iter()
        .find(|entry| entry.name == config.current_context)
        .ok_or_else(|| missing("current context", &config.current_context))?;
    let cluster = config
        .clusters
        .iter()
        .find(|entry| entry.name == context.context.cluster)
        .ok_or_else(|| missing("cluster", &context.context.cluster))?;
    let user = config
        .users
        .iter()
        .find(|entry| entry.name == context.context.user)
        .ok_or_else(|| missing("user", &context.context.user))?;
    refuse(&cluster.cluster, &user.user)?;
    credential(&cluster.cluster, &user.user, bytes)
}

/// Entries that would run a program, read a file of the host, or weaken TLS.
fn refuse(cluster: &ClusterEntry, user: &UserEntry) -> Result<(), CredentialFault> {
    let file = "it names a file: write the content as …-data";
    let rules: [(bool, &'static str, &'static str); 10] = [
        (
            user.exec.is_some(),
            "user.exec",
            "it would run a program: use a client certificate or a token",
        ),
        (
            user.auth_provider.is_some(),
            "user.auth-provider",
            "it would run a program: use a client certificate or a token",
        ),
        (
            user.client_certificate.is_some(),
            "user.client-certificate",
            file,
        ),
        (user.client_key.is_some(), "user.client-key", file),
        (
            user.token_file.is_some(),
            "user.tokenFile",
            "it names a file: write the token",
        ),
        (
            user.username.is_some(),
            "user.username",
            "API servers take no passwords: use a client certificate or a token",
        ),
        (
            user.act_as.is_some(),
            "user.as",
            "impersonation is not supported",
        ),
        (
            cluster.certificate_authority.is_some(),
            "cluster.certificate-authority",
            file,
        ),
        (
            cluster.insecure_skip_tls_verify,
            "cluster.insecure-skip-tls-verify",
            "the server's certificate is always checked",
        ),
        (
            cluster.proxy_url.is_some(),
            "cluster.proxy-url",
            "proxies are not supported",
        ),
    ];
    for (found, entry, why) in rules {
        if found {
            return Err(CredentialFault::Refused { entry, why });
        }
    }
    Ok(())
}

fn credential(
    cluster: &ClusterEntry,
    user: &UserEntry,
    source: &[u8],
) -> Result<Credential, CredentialFault> {
    let ca = cluster
        .certificate_authority_data
        .as_deref()
        .ok_or_else(|| CredentialFault::Missing("certificate-authority-data".to_owned()))?;
    let ca = decode(ca, "certificate-authority-data")?;
    let identity = match (&user.client_certificate_data, &user.client_key_data) {
        (Some(cert), Some(key)) => Some((
            decode(cert, "client-certificate-data")?,
            decode(key.expose_secret(), "client-key-data")?,
        )),
        (None, None) if user.token.is_some() => None,
        _ => {
            return Err(CredentialFault::Missing(
                "client-certificate-data with client-key-data, nor a token".to_owned(),
            ));
        }
    };
    let pair = identity
        .as_ref()
        .map(|(cert, key)| (cert.as_slice(), key.as_slice()));
    Ok(Credential {
        // HTTP/1.1 only: one connection a watch, and a lost connection takes one
        // request with it, not all.
        tls: tls::client_config(&ca, pair, &[b"http/1.1"])?,
        token: user.token.clone(),
        validity: pair.map(|(cert, _)| tls::validity(cert)).transpose()?,
        server: host_and_port(&cluster.server)?,
        tls_name: cluster.tls_server_name.clone(),
        fingerprint: fingerprint(source),
    })
}

fn decode(text: &str, what: &'static str) -> Result<Zeroizing<Vec<u8>>, CredentialFault> {
    STANDARD
        .decode(text.trim())
        .map(Zeroizing::new)
        .map_err(|_| CredentialFault::Base64(what))
}

fn fingerprint(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).into()
}

/// Host and port of `https://host[:port]` or `host[:port]`.
pub(crate) fn host_and_port(text: &str) -> Result<(String, u16), CredentialFault> {
    let unreadable = || CredentialFault::Unreadable("server is not https://HOST:PORT".to_owned());
    let full = if text.contains("://") {
        text.to_owned()
    } else {
        format!("https://{text}")
    };
    let uri: http::Uri = full.parse().map_err(|_| unreadable())?;
    if uri.scheme_str() != Some("https") || !matches!(uri.path(), "" | "/") {
        return Err(unreadable());
    }
    let host = uri.host().ok_or_else(unreadable)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let default_port = if text.contains("://") { 443 } else { 6443 };
    Ok((host.to_owned(), uri.port_u16().unwrap_or(default_port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(user: &str, cluster: &str) -> String {
        let text = format!(
            "current-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
             clusters: [{{name: k, cluster: {{server: 'https://127.0.0.1:6443'{cluster}}}}}]\n\
             users: [{{name: u, user: {user}}}]\n"
        );
        parse(&SecretSlice::from(text.into_bytes()))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn what_runs_programs_or_reads_files_is_refused() {
        let table = [
            ("{exec: {command: sh}}", "", "user.exec"),
            ("{auth-provider: {name: x}}", "", "user.auth-provider"),
            ("{client-key: /etc/shadow}", "", "user.client-key"),
            ("{tokenFile: /etc/shadow}", "", "user.tokenFile"),
            ("{token: t}", ", insecure-skip-tls-verify: true", "insecure"),
            (
                "{token: t}",
                ", certificate-authority: /x",
                "certificate-authority",
            ),
            ("{token: t}", ", proxy-url: 'http://x'", "proxy-url"),
            ("{token: t}", "", "certificate-authority-data"),
        ];
        for (user, cluster, wanted) in table {
            let message = refused(user, cluster);
            assert!(message.contains(wanted), "{user}{cluster}: {message}");
        }
    }

    #[test]
    fn a_broken_kubeconfig_is_not_quoted() {
        let text = "current-context: [canary-in-kubeconfig";
        let message = parse(&SecretSlice::from(text.as_bytes().to_vec()))
            .unwrap_err()
            .to_string();
        assert!(!message.contains("canary"), "{message}");
    }

    #[test]
    fn endpoints() {
        let table = [
            ("https://127.0.0.1:6443", Some(("127.0.0.1", 6443))),
            ("https://[::1]:6443", Some(("::1", 6443))),
            ("https://api.example", Some(("api.example", 443))),
            ("api.example", Some(("api.example", 6443))),
            ("http://api.example:80", None),
            ("https://api.example/path", None),
        ];
        for (text, wanted) in table {
            let found = host_and_port(text).ok();
            let wanted = wanted.map(|(host, port)| (host.to_owned(), port));
            assert_eq!(found, wanted, "{text}");
        }
    }
}
