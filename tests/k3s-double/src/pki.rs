//! Certificate authorities and leaves in files, as k3s keeps them: a `.crt` holds the leaf and its CA, 0644; keys 0600.
//!
//! Leaves are remade with new keys when 120 days or less remain, or when name, alternative names or CA changed
//! (daemons/control/deps/deps.go, checked). CAs are never renewed.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::layout;

const DAY: u64 = 24 * 60 * 60;
const CA_DAYS: u64 = 3650;
const LEAF_DAYS: u64 = 365;
/// Days of remaining life at which a start remakes a leaf (120 since May 2025).
const RENEW_DAYS: u64 = 120;

/// What a leaf says.
#[derive(Clone, Debug)]
pub(crate) struct Leaf<'a> {
    pub(crate) common_name: &'a str,
    pub(crate) organizations: &'a [&'a str],
    pub(crate) names: &'a [String],
    pub(crate) server: bool,
    pub(crate) client: bool,
}

/// A certificate and its key, both PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

fn seconds_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn lifetime(parameters: &mut CertificateParams, days: u64) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let now = seconds_now();
    parameters.not_before = epoch + Duration::from_secs(now.saturating_sub(60));
    parameters.not_after = epoch + Duration::from_secs(now + days * DAY);
}

/// Days that a new leaf lives, from the variable that k3s reads too.
fn leaf_days() -> u64 {
    std::env::var("CATTLE_NEW_SIGNED_CERT_EXPIRATION_DAYS")
        .ok()
        .and_then(|value| value.parse().ok())
        .filter(|&days| days > 0)
        .unwrap_or(LEAF_DAYS)
}

/// Makes a CA unless its files are there.
pub(crate) fn ensure_ca(certificate: &Path, key: &Path, name: &str) -> Result<()> {
    if certificate.exists() && key.exists() {
        return Ok(());
    }
    let mut parameters = CertificateParams::default();
    lifetime(&mut parameters, CA_DAYS);
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters
        .distinguished_name
        .push(DnType::CommonName, format!("{name}@{}", seconds_now()));
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::KeyEncipherment,
    ];
    let pair = KeyPair::generate()?;
    let signed = parameters.self_signed(&pair)?;
    layout::write(key, pair.serialize_pem().as_bytes(), 0o600)?;
    layout::write(certificate, signed.pem().as_bytes(), 0o644)
}

/// Signs a new leaf with a new key.
pub(crate) fn issue(ca_certificate: &Path, ca_key: &Path, leaf: &Leaf<'_>) -> Result<Pair> {
    let ca_pem = layout::read(ca_certificate)?;
    let issuer = Issuer::from_ca_cert_pem(&ca_pem, KeyPair::from_pem(&layout::read(ca_key)?)?)
        .with_context(|| format!("load {}", ca_certificate.display()))?;
    let mut parameters = CertificateParams::new(leaf.names.to_vec())?;
    lifetime(&mut parameters, leaf_days());
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    for organization in leaf.organizations {
        parameters
            .distinguished_name
            .push(DnType::OrganizationName, *organization);
    }
    parameters
        .distinguished_name
        .push(DnType::CommonName, leaf.common_name);
    parameters.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    if leaf.server {
        parameters
            .extended_key_usages
            .push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    if leaf.client {
        parameters
            .extended_key_usages
            .push(ExtendedKeyUsagePurpose::ClientAuth);
    }
    parameters.use_authority_key_identifier_extension = true;
    let pair = KeyPair::generate()?;
    let signed = parameters.signed_by(&pair, &issuer)?;
    Ok(Pair {
        certificate: format!("{}{ca_pem}", signed.pem()),
        key: pair.serialize_pem(),
    })
}

/// Makes the leaf's files unless they are there and good for longer than the renewal window. True when it made them.
pub(crate) fn ensure_leaf(
    (ca_certificate, ca_key): (&Path, &Path),
    (certificate, key): (&Path, &Path),
    leaf: &Leaf<'_>,
) -> Result<bool> {
    if key.exists() && still_good(certificate, ca_certificate, leaf)? {
        return Ok(false);
    }
    let pair = issue(ca_certificate, ca_key, leaf)?;
    layout::write(key, pair.key.as_bytes(), 0o600)?;
    layout::write(certificate, pair.certificate.as_bytes(), 0o644)?;
    Ok(true)
}

fn still_good(certificate: &Path, ca_certificate: &Path, leaf: &Leaf<'_>) -> Result<bool> {
    let Some(pem) = layout::read_if_there(certificate)? else {
        return Ok(false);
    };
    let ca_pem = layout::read(ca_certificate)?;
    if !pem.ends_with(&ca_pem) {
        return Ok(false);
    }
    let Ok(facts) = facts(&pem) else {
        return Ok(false);
    };
    let wanted: BTreeSet<String> = leaf.names.iter().cloned().collect();
    Ok(facts.days_left > RENEW_DAYS
        && facts.common_name == leaf.common_name
        && facts.names == wanted)
}

/// What a certificate file says about its first certificate.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) common_name: String,
    pub(crate) organizations: Vec<String>,
    pub(crate) names: BTreeSet<String>,
    /// Whole days until it expires, 0 when it has.
    pub(crate) days_left: u64,
    /// Unix seconds.
    pub(crate) not_after: i64,
}

/// Reads the first certificate of a PEM text.
pub(crate) fn facts(pem: &str) -> Result<Facts> {
    let first = rustls_pemfile::certs(&mut pem.as_bytes())
        .next()
        .ok_or_else(|| anyhow!("no certificate found"))??;
    facts_of(&first)
}

/// Reads one DER certificate.
pub(crate) fn facts_of(der: &[u8]) -> Result<Facts> {
    let (_, parsed) =
        X509Certificate::from_der(der).map_err(|error| anyhow!("not a certificate: {error}"))?;
    let subject = parsed.subject();
    let mut names = BTreeSet::new();
    if let Ok(Some(extension)) = parsed.subject_alternative_name() {
        for name in &extension.value.general_names {
            match name {
                GeneralName::DNSName(name) => {
                    names.insert((*name).to_owned());
                }
                GeneralName::IPAddress(bytes) => {
                    names.extend(address(bytes).map(|address| address.to_string()));
                }
                _ => {}
            }
        }
    }
    let not_after = parsed.validity().not_after.timestamp();
    let left = u64::try_from(not_after)
        .unwrap_or(0)
        .saturating_sub(seconds_now());
    let texts = |attributes: Vec<&x509_parser::x509::AttributeTypeAndValue<'_>>| {
        attributes
            .iter()
            .filter_map(|value| value.as_str().ok().map(str::to_owned))
            .collect::<Vec<_>>()
    };
    Ok(Facts {
        common_name: texts(subject.iter_common_name().collect())
            .into_iter()
            .next()
            .unwrap_or_default(),
        organizations: texts(subject.iter_organization().collect()),
        names,
        days_left: left / DAY,
        not_after,
    })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_is_kept_until_something_about_it_changes() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let (ca, ca_key, crt, key) = (
            path("ca.crt"),
            path("ca.key"),
            path("leaf.crt"),
            path("leaf.key"),
        );
        ensure_ca(&ca, &ca_key, "k3s-server-ca").unwrap();
        let names = ["127.0.0.1".to_owned(), "one".to_owned()];
        let more = ["127.0.0.1".to_owned(), "two".to_owned()];
        let leaf = |names: &'static [String]| Leaf {
            common_name: "kube-apiserver",
            organizations: &["k3s"],
            names,
            server: true,
            client: false,
        };
        let make = |names: &[String]| {
            let leaf = Leaf { names, ..leaf(&[]) };
            ensure_leaf((&ca, &ca_key), (&crt, &key), &leaf).unwrap()
        };
        assert!(make(&names));
        assert!(!make(&names), "unchanged");
        let facts = facts(&layout::read(&crt).unwrap()).unwrap();
        assert!((364..=365).contains(&facts.days_left));
        assert_eq!(facts.organizations, ["k3s"]);
        assert!(make(&more), "other names");
        std::fs::remove_file(&ca).unwrap();
        ensure_ca(&ca, &ca_key, "k3s-server-ca").unwrap();
        assert!(make(&more), "other authority");
        assert_eq!(
            layout::read(&crt)
                .unwrap()
                .matches("BEGIN CERTIFICATE")
                .count(),
            2
        );
    }
}
