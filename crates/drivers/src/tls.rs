//! TLS as a client: PEM texts, or what the system trusts, become a rustls
//! configuration. Shared by the drivers that speak to a cluster (its API, its etcd),
//! to a release server and to a forge. The crypto provider is named here, so nothing
//! depends on a default of the process.

use std::fs;
use std::sync::Arc;

use camino::Utf8Path;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// What is wrong with certificates or keys. Never holds any of their bytes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// The text holds no certificate or key, or one that cannot be read.
    #[error("the {what} cannot be read: {why}")]
    Unreadable {
        /// `certificate authority`, `client certificate`, `client key`.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// rustls refuses the combination.
    #[error("the client certificate and its key are refused: {0}")]
    Refused(#[from] rustls::Error),
}

/// From when to when a certificate is valid, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    /// `notBefore`.
    pub(crate) from_s: i64,
    /// `notAfter`.
    pub(crate) until_s: i64,
}

/// The certificates of a PEM text; at least one.
fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certs {
        Ok(certs) if certs.is_empty() => Err(TlsError::Unreadable {
            what,
            why: "it holds no PEM certificate".to_owned(),
        }),
        Ok(certs) => Ok(certs),
        Err(error) => Err(TlsError::Unreadable {
            what,
            why: error.to_string(),
        }),
    }
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    // The parser's errors name what is missing and quote nothing.
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| TlsError::Unreadable {
        what: "client key",
        why: error.to_string(),
    })
}

/// When the first certificate of a PEM text is valid.
pub(crate) fn validity(pem: &[u8]) -> Result<Validity, TlsError> {
    let unreadable = |why: String| TlsError::Unreadable {
        what: "client certificate",
        why,
    };
    let certs = certificates(pem, "client certificate")?;
    let leaf = certs
        .first()
        .ok_or_else(|| unreadable("it is empty".to_owned()))?;
    let (_, parsed) =
        X509Certificate::from_der(leaf).map_err(|error| unreadable(error.to_string()))?;
    Ok(Validity {
        from_s: parsed.validity().not_before.timestamp(),
        until_s: parsed.validity().not_after.timestamp(),
    })
}

/// Where the authorities of the system lie: Debian, Fedora, SUSE, Alpine.
/// `SSL_CERT_FILE` goes before them, as with OpenSSL.
const AUTHORITIES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What the system trusts.
pub(crate) fn system_roots() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let named = std::env::var("SSL_CERT_FILE").ok();
    let mut files = named
        .as_deref()
        .into_iter()
        .chain(AUTHORITIES.iter().copied());
    if files.any(|file| add_authorities(&mut roots, Utf8Path::new(file))) {
        return Ok(roots);
    }
    Err(TlsError::Unreadable {
        what: "certificate authorities of this machine",
        why: "there are none; install ca-certificates".to_owned(),
    })
}

/// Some certificates of a system's bundle are older than the rules that rustls
/// knows: they are passed over.
fn add_authorities(roots: &mut RootCertStore, file: &Utf8Path) -> bool {
    let Ok(bundle) = fs::read(file) else {
        return false;
    };
    let certificates = CertificateDer::pem_slice_iter(&bundle).flatten();
    let (added, _) = roots.add_parsable_certificates(certificates);
    added > 0
}

/// The authorities of a PEM text; at least one.
pub(crate) fn roots_of(pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for cert in certificates(pem, "certificate authority")? {
        roots.add(cert).map_err(|error| TlsError::Unreadable {
            what: "certificate authority",
            why: error.to_string(),
        })?;
    }
    Ok(roots)
}

/// A client that trusts these authorities and shows no certificate.
pub(crate) fn plain_client(roots: RootCertStore) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// A client's configuration: trusts `ca` alone, shows `identity` (certificate chain
/// and key) where there is one, offers `alpn`.
pub(crate) fn client_config(
    ca: &[u8],
    identity: Option<(&[u8], &[u8])>,
    alpn: &[&[u8]],
) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots_of(ca)?);
    let mut config = match identity {
        Some((cert, key)) => builder
            .with_client_auth_cert(certificates(cert, "client certificate")?, private_key(key)?)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}
