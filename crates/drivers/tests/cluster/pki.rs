//! Certificates of a test's own: an authority, a server's, and clients' of any life.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

/// An authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// PEM texts.
pub struct Pair {
    pub cert: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "trueup-test");
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        Self { issuer }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// For `127.0.0.1`, usable on both sides (etcd members are clients of each other).
    pub fn server(&self) -> Pair {
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        self.issue(params, Duration::from_secs(0), Duration::from_secs(86_400))
    }

    /// A client of the group `system:masters`, valid from so long ago for so long
    /// from now.
    pub fn client(&self, name: &str, since: Duration, left: Duration) -> Pair {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params
            .distinguished_name
            .push(DnType::OrganizationName, "system:masters");
        self.issue(params, since, left)
    }

    fn issue(&self, mut params: CertificateParams, since: Duration, left: Duration) -> Pair {
        let now = SystemTime::now();
        // A minute for clocks' sake.
        params.not_before = (now - since - Duration::from_secs(60)).into();
        params.not_after = (now + left).into();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Pair {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }
}
