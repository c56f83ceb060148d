//! ClusterApi: the Kubernetes API of one cluster.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::Value;

use crate::facts::cluster::{ClusterFacts, ClusterOwner, Inventory, RawTaint};
use crate::facts::object::{Answer, LiveObject, ObjectRef};
use crate::id::{AppName, NodeName};

/// Whether fields of other managers may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// Never: a conflict is an answer.
    No,
    /// Take them: only for fields of a recorded baseline, with correction granted.
    Yes,
}

/// Why the cluster could not be asked or told.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No server answers.
    #[error("the API of {cluster} does not answer: {why}")]
    Unreachable {
        /// The cluster.
        cluster: String,
        /// What was tried, per server.
        why: String,
    },
    /// The credential could not be read or is refused.
    #[error("no credential for {cluster}: {why}")]
    Credential {
        /// The cluster.
        cluster: String,
        /// What happened.
        why: String,
    },
    /// The API server answered with an error; 429 and 5xx may pass.
    #[error("{what}: the API server answers {code} {reason}: {message}")]
    Status {
        /// What was asked.
        what: String,
        /// HTTP code.
        code: u16,
        /// `reason` of the Status object.
        reason: String,
        /// `message`, capped, without values of a Secret.
        message: String,
    },
    /// Other managers own the fields that were to be written.
    #[error("{what}: other managers own fields: {}", listed(fields))]
    Conflict {
        /// What was asked.
        what: String,
        /// `(manager, field)` pairs.
        fields: Vec<(String, String)>,
    },
    /// Nothing was written, because what was decided on is no longer so: observe
    /// again, then decide again.
    #[error("{what} is refused: {why}")]
    Refused {
        /// What was asked.
        what: String,
        /// What is not as it was.
        why: String,
    },
    /// The reply was lost: the request may have had an effect.
    #[error("{what}: the reply was lost: {why}")]
    Lost {
        /// What was asked.
        what: String,
        /// What happened.
        why: String,
    },
}

fn listed(fields: &[(String, String)]) -> String {
    let fields: Vec<String> = fields
        .iter()
        .map(|(manager, field)| format!("{field} ({manager})"))
        .collect();
    fields.join(", ")
}

/// Why an object was not applied (or would not be).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApplyRefusal {
    /// Other managers own fields: `(manager, field)` pairs.
    Conflict(Vec<(String, String)>),
    /// The object is not valid, or an immutable field would change: the message.
    Invalid(String),
    /// A namespace or a kind that does not exist yet.
    NotYet(String),
    /// The credential may not do this.
    Forbidden(String),
    /// 409 that is not a field conflict, 429, 5xx, no answer: try again later.
    Later(String),
    /// The reply was lost: observe, then decide.
    Unknown(String),
}

impl std::fmt::Display for ApplyRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Conflict(fields) => {
                write!(f, "other managers own fields:")?;
                for (manager, field) in fields {
                    write!(f, " {field} ({manager})")?;
                }
                Ok(())
            }
            Self::Invalid(why) => write!(f, "not valid: {why}"),
            Self::NotYet(why) => write!(f, "not possible yet: {why}"),
            Self::Forbidden(why) => write!(f, "not allowed: {why}"),
            Self::Later(why) => write!(f, "try again later: {why}"),
            Self::Unknown(why) => write!(f, "the outcome is unknown: {why}"),
        }
    }
}

/// The API of one cluster. Implementations hold watches; reads of facts are local.
#[async_trait]
pub trait ClusterApi: Send + Sync + std::fmt::Debug {
    /// Facts from the watches. The first call opens them and waits until they are
    /// in step; later calls cost no request. `kinds` (`apiVersion kind`) are
    /// watched in addition to those of the inventories.
    async fn facts(&self, kinds: &[(String, String)]) -> Result<ClusterFacts, ClusterError>;

    /// Waits until there is something new since the last `facts`. A wake-up carries
    /// no data, and it may come without need.
    async fn changed(&self);

    /// `/readyz` of one server, asked now.
    async fn ready(&self, server: &NodeName) -> Result<(), ClusterError>;

    /// Server-side apply by manager `trueup`; `dry_run` changes nothing.
    async fn apply(
        &self,
        object: &Value,
        force: Force,
        dry_run: bool,
    ) -> Result<Answer, ApplyRefusal>;

    /// One object by name, asked now; `None` if it does not exist.
    async fn get(&self, object: &ObjectRef) -> Result<Option<LiveObject>, ClusterError>;

    /// Delete with a UID precondition; an object that is gone is success.
    async fn delete(&self, object: &ObjectRef, uid: &str) -> Result<(), ClusterError>;

    /// Write an Application's inventory whole; refused where somebody else wrote it
    /// since it was last read (the caller reads again and decides again).
    async fn write_inventory(
        &self,
        app: &AppName,
        inventory: &Inventory,
    ) -> Result<(), ClusterError>;

    /// Write the cluster's ownership record; refused where the recorded epoch is
    /// higher, or the holder another and `take_over` is false.
    async fn write_owner(&self, owner: &ClusterOwner, take_over: bool) -> Result<(), ClusterError>;

    /// Own exactly these labels of a Node, by server-side apply of their keys.
    async fn set_labels(
        &self,
        node: &NodeName,
        labels: &BTreeMap<String, String>,
        force: Force,
    ) -> Result<(), ClusterError>;

    /// Replace `before` by `after` in a Node's taints (JSON patch with a `test` on
    /// the whole list), and record the keys that are ours in the same patch.
    async fn set_taints(
        &self,
        node: &NodeName,
        before: &[RawTaint],
        after: &[RawTaint],
        owned: &str,
    ) -> Result<(), ClusterError>;
}
