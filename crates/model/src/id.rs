//! Identities as types of their own, so that a node's name can never be passed
//! where a cluster's is meant. All are plain strings with a checked shape.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Why a text is not an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {what}: {why}")]
pub struct IdError {
    /// The refused text, cut to 80 characters.
    pub text: String,
    /// The kind of identity that was wanted.
    pub what: &'static str,
    /// What is wrong, in words for the author of the document.
    pub why: &'static str,
}

impl IdError {
    fn new(text: &str, what: &'static str, why: &'static str) -> Self {
        Self {
            text: text.chars().take(80).collect(),
            what,
            why,
        }
    }
}

/// RFC 1123 label or subdomain, the rule of Kubernetes for names of objects.
fn check_dns1123(text: &str, max: usize) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.len() > max {
        return Err("it is too long");
    }
    for label in text.split('.') {
        let ok = label
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if label.is_empty() || !ok || label.starts_with('-') || label.ends_with('-') {
            return Err(
                "use lower-case letters, digits and '-', beginning and ending with a letter or digit",
            );
        }
    }
    Ok(())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text of the name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                check_dns1123(text, $max).map_err(|why| IdError::new(text, $what, why))?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "minLength": 1,
                    "maxLength": $max,
                    "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
                })
            }
        }
    };
}

name_type!(
    /// Name of a Fleet.
    FleetName, "fleet name", 63);
name_type!(
    /// Name of a Node document; also the Kubernetes Node name (k3s lower-cases
    /// host names, so ours are lower-case from the start).
    NodeName, "node name", 63);
name_type!(
    /// Name of a Cluster.
    ClusterName, "cluster name", 63);
name_type!(
    /// Name of an Application.
    AppName, "application name", 63);
name_type!(
    /// Name of a NodeProfile.
    ProfileName, "profile name", 63);

/// What plans, approvals, epochs and isolation are counted by: one cluster with
/// its machines, or one lone machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum UnitId {
    /// A cluster and every machine that names it.
    Cluster(ClusterName),
    /// A machine without a cluster.
    Machine(NodeName),
}

impl UnitId {
    /// The context part of a verdict: lone machines share `machines`.
    pub fn context(&self) -> &str {
        match self {
            Self::Cluster(name) => name.as_str(),
            Self::Machine(_) => "machines",
        }
    }
}

impl fmt::Display for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster(name) => write!(f, "cluster/{name}"),
            Self::Machine(name) => write!(f, "machine/{name}"),
        }
    }
}

impl FromStr for UnitId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        match text.split_once('/') {
            Some(("cluster", name)) => Ok(Self::Cluster(name.parse()?)),
            Some(("machine", name)) => Ok(Self::Machine(name.parse()?)),
            Some(_) | None => Err(IdError::new(
                text,
                "unit",
                "write cluster/NAME or machine/NAME",
            )),
        }
    }
}

/// SHA-256 as 64 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(pub String);

impl Digest {
    /// Digest of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(hex(&Sha256::digest(bytes)))
    }

    /// Digest of several parts; each is preceded by its length, so that moving
    /// bytes between neighbours changes the digest.
    pub fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        Self(hex(&hasher.finalize()))
    }

    /// The first 12 digits, for people.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Lower-case hex of bytes.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut out, byte| {
        // Writing to a String cannot fail.
        _ = write!(out, "{byte:02x}");
        out
    })
}

/// A Git commit id: 40 lower-case hex digits (SHA-1 repositories).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommitId(String);

impl CommitId {
    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// The first ten digits, for people.
    pub fn short(&self) -> &str {
        self.0.get(..10).unwrap_or(&self.0)
    }
}

impl FromStr for CommitId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let ok = text.len() == 40
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if ok {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdError::new(text, "commit id", "40 lower-case hex digits"))
        }
    }
}

impl TryFrom<String> for CommitId {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<CommitId> for String {
    fn from(id: CommitId) -> Self {
        id.0
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who converges: the holder's name and its epoch. Written on every target; a
/// target refuses a lower epoch and another holder's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The name of the host configuration (`holder`), default the machine-id.
    pub holder: String,
    /// Grows when a holder begins anew or takes over, never otherwise.
    pub epoch: u64,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (epoch {})", self.holder, self.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_rfc_1123() {
        for good in ["a", "k3sc1", "edge-1", "node.example"] {
            assert!(good.parse::<NodeName>().is_ok(), "{good}");
        }
        for bad in ["", "A", "-a", "a-", "a_b", "a..b", "ä", &"x".repeat(64)] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn parts_do_not_run_together() {
        let one = Digest::of_parts([b"ab".as_slice(), b"c"]);
        let two = Digest::of_parts([b"a".as_slice(), b"bc"]);
        assert_ne!(one, two);
    }

    #[test]
    fn units_round_trip() {
        for text in ["cluster/edge", "machine/lab"] {
            assert_eq!(text.parse::<UnitId>().unwrap().to_string(), text);
        }
        assert!("edge".parse::<UnitId>().is_err());
    }
}
