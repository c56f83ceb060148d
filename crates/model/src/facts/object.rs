//! Kubernetes objects: how they are named, and what is seen of them.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Name of an object within one cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// `v1`, `apps/v1`.
    pub api_version: String,
    /// `Deployment`.
    pub kind: String,
    /// Namespace; empty for what has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl ObjectRef {
    /// API group; empty for the core group.
    pub fn group(&self) -> &str {
        self.api_version
            .split_once('/')
            .map_or("", |(group, _)| group)
    }
    /// Identity over versions: group, kind, namespace, name.
    pub fn key(&self) -> (&str, &str, &str, &str) {
        (self.group(), &self.kind, &self.namespace, &self.name)
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{}/{}", self.kind, self.name)
        } else {
            write!(f, "{}/{}/{}", self.kind, self.namespace, self.name)
        }
    }
}

/// Label that says which Application an object belongs to; watches select on it.
pub const APPLICATION_LABEL: &str = "trueup.dev/application";
/// Annotation with the creation mark: the inventory's id, on objects that trueup
/// itself created. An inventory entry without a UID is pruned only with it.
pub const CREATION_MARK: &str = "trueup.dev/created-by";
/// Field manager of server-side apply.
pub const FIELD_MANAGER: &str = "trueup";

/// A live object. The JSON is shared: a snapshot of a thousand objects is cheap.
#[derive(Clone, PartialEq)]
pub struct LiveObject {
    /// Its name.
    pub object: ObjectRef,
    /// `metadata.uid`.
    pub uid: String,
    /// The whole object.
    pub json: Arc<serde_json::Value>,
}

/// What the API server answered to an apply or its dry run.
#[derive(Clone, PartialEq)]
pub struct Answer {
    /// `metadata.uid`; in a dry run of a create it is made up.
    pub uid: String,
    /// True where the object did not exist before.
    pub created: bool,
    /// The whole object with `metadata.managedFields`.
    pub json: Arc<serde_json::Value>,
}

// An object may be a Secret: no Debug output shows its content.
impl fmt::Debug for LiveObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveObject")
            .field("object", &self.object)
            .field("uid", &self.uid)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("uid", &self.uid)
            .field("created", &self.created)
            .finish_non_exhaustive()
    }
}
