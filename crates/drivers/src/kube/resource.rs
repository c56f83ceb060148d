//! Which path belongs to a kind: asked of the server by group and version, one
//! request each, and remembered. A kind that is not there is asked for again, since
//! its CustomResourceDefinition may come at any time.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;
use trueup_model::facts::object::ObjectRef;

use super::answer::Status;
use super::caller::{Call, Caller};
use super::wire::Fault;

/// Between two questions for a group that lacked the kind: a CRD of our own apply
/// is forgotten at once (see [`Resources::forget`]), a foreign one may wait so long.
const ASK_AGAIN: Duration = Duration::from_secs(3);

/// A kind as the server serves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resource {
    /// `v1`, `apps/v1`.
    pub(crate) api_version: String,
    /// `Deployment`.
    pub(crate) kind: String,
    /// `deployments`.
    pub(crate) plural: String,
    /// It lives in namespaces.
    pub(crate) namespaced: bool,
}

impl Resource {
    /// Path of the whole kind, over all namespaces.
    pub(crate) fn all(&self) -> String {
        format!("{}/{}", base(&self.api_version), self.plural)
    }

    /// Path of a namespace's collection; of the whole kind where it has none.
    pub(crate) fn collection(&self, namespace: &str) -> String {
        if self.namespaced {
            let base = base(&self.api_version);
            format!("{base}/namespaces/{}/{}", encoded(namespace), self.plural)
        } else {
            self.all()
        }
    }

    /// Path of one object.
    pub(crate) fn one(&self, namespace: &str, name: &str) -> String {
        format!("{}/{}", self.collection(namespace), encoded(name))
    }
}

/// `/api/v1` or `/apis/GROUP/VERSION`.
fn base(api_version: &str) -> String {
    if api_version.contains('/') {
        let encoded: Vec<String> = api_version.split('/').map(encoded).collect();
        format!("/apis/{}", encoded.join("/"))
    } else {
        format!("/api/{}", encoded(api_version))
    }
}

/// A path segment or query value: whatever the repo wrote, it stays one segment.
pub(crate) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~' | b'.') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    // A segment of dots alone would walk up the path.
    if out.bytes().all(|byte| byte == b'.') {
        out = out.replace('.', "%2E");
    }
    out
}

/// Why there is no path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoResource {
    /// The server does not know the kind (now).
    NotThere(String),
    /// It could not be asked.
    Fault(Fault),
    /// It answered with an error.
    Status(Status),
}

#[derive(Deserialize)]
struct ResourceList {
    #[serde(default)]
    resources: Vec<ResourceEntry>,
}

#[derive(Deserialize)]
struct ResourceEntry {
    name: String,
    #[serde(default)]
    namespaced: bool,
    kind: String,
}

/// One group and version as last seen.
#[derive(Debug)]
struct Seen {
    at: Instant,
    by_kind: BTreeMap<String, Resource>,
}

/// What the server serves, as far as it was asked.
#[derive(Debug, Default)]
pub(crate) struct Resources {
    seen: Mutex<BTreeMap<String, Seen>>,
}

impl Resources {
    /// The resource of a kind; from memory where it is known.
    pub(crate) async fn find(
        &self,
        caller: &Caller,
        api_version: &str,
        kind: &str,
    ) -> Result<Resource, NoResource> {
        let not_there = || {
            NoResource::NotThere(format!(
                "the server does not know the kind {api_version} {kind}"
            ))
        };
        {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(group) = seen.get(api_version) {
                if let Some(resource) = group.by_kind.get(kind) {
                    return Ok(resource.clone());
                }
                if group.at.elapsed() < ASK_AGAIN {
                    return Err(not_there());
                }
            }
        }
        let by_kind = ask(caller, api_version).await?;
        let found = by_kind.get(kind).cloned();
        let group = Seen {
            at: Instant::now(),
            by_kind,
        };
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(api_version.to_owned(), group);
        found.ok_or_else(not_there)
    }

    /// The resource, if it is known already.
    pub(crate) fn known(&self, api_version: &str, kind: &str) -> Option<Resource> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(api_version)?.by_kind.get(kind).cloned()
    }

    /// Forget a kind that the server answered 404 for, or a group whose definitions
    /// just changed (`kind` empty).
    pub(crate) fn forget(&self, api_version: &str, kind: &str) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if kind.is_empty() {
            seen.retain(|known, _| known != api_version);
        } else if let Some(group) = seen.get_mut(api_version) {
            group.by_kind.remove(kind);
        }
    }

    /// Forget every version of a group: its CustomResourceDefinition was applied.
    pub(crate) fn forget_group(&self, group: &str) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|known, _| known.split_once('/').map_or("", |(name, _)| name) != group);
    }
}

async fn ask(caller: &Caller, api_version: &str) -> Result<BTreeMap<String, Resource>, NoResource> {
    let reply = caller
        .call(&Call::get(base(api_version)))
        .await
        .map_err(NoResource::Fault)?;
    match reply.code {
        200 => {}
        // No such group, or its API service is not up yet.
        404 => return Ok(BTreeMap::new()),
        _ => return Err(NoResource::Status(Status::of(&reply))),
    }
    let list: ResourceList = serde_json::from_slice(&reply.body).map_err(|error| {
        NoResource::Fault(Fault::Lost(format!(
            "the list of resources is not understood: {error}"
        )))
    })?;
    Ok(list
        .resources
        .into_iter()
        // `deployments/status` and the like are no objects of their own.
        .filter(|entry| !entry.name.contains('/'))
        .map(|entry| {
            let resource = Resource {
                api_version: api_version.to_owned(),
                kind: entry.kind.clone(),
                plural: entry.name,
                namespaced: entry.namespaced,
            };
            (entry.kind, resource)
        })
        .collect())
}

/// The path of a live or wanted object, by its own words.
pub(crate) fn path_of(resource: &Resource, object: &ObjectRef) -> String {
    resource.one(&object.namespace, &object.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let resource = |api_version: &str, namespaced| Resource {
            api_version: api_version.to_owned(),
            kind: "X".to_owned(),
            plural: "xs".to_owned(),
            namespaced,
        };
        let table = [
            (
                resource("v1", true),
                "ns",
                "a",
                "/api/v1/namespaces/ns/xs/a",
            ),
            (resource("apps/v1", false), "", "a", "/apis/apps/v1/xs/a"),
            (
                resource("rbac.authorization.k8s.io/v1", false),
                "",
                "system:node",
                "/apis/rbac.authorization.k8s.io/v1/xs/system%3Anode",
            ),
            (
                resource("v1", true),
                "../../nodes",
                "..",
                "/api/v1/namespaces/..%2F..%2Fnodes/xs/%2E%2E",
            ),
        ];
        for (resource, namespace, name, wanted) in table {
            assert_eq!(resource.one(namespace, name), wanted);
        }
    }
}
