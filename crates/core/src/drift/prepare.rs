//! A manifest becomes what is sent: our label and creation mark, the namespace, and
//! a Secret's `stringData` as `data` (the API server answers without `stringData`, so
//! a foreign change of it would never be seen).

use serde_json::{Map, Value, json};
use trueup_model::facts::object::{APPLICATION_LABEL, CREATION_MARK};
use trueup_model::id::AppName;

/// What an object is prepared with.
#[derive(Clone, Copy)]
pub struct Preparation<'a> {
    /// The Application that it belongs to.
    pub app: &'a AppName,
    /// Namespace for objects that name none.
    pub namespace: &'a str,
    /// Id of the cluster's inventories, on what trueup creates; `None` for an object
    /// that is adopted.
    pub mark: Option<&'a str>,
    /// Whether a kind (`apiVersion`, `kind`) has no namespace; `None`: not known.
    /// Asked before the built-in table.
    pub cluster_scoped: &'a dyn Fn(&str, &str) -> Option<bool>,
}

impl std::fmt::Debug for Preparation<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Preparation")
            .field("app", &self.app)
            .field("namespace", &self.namespace)
            .field("mark", &self.mark)
            .finish_non_exhaustive()
    }
}

/// Why a manifest cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    /// It lacks a field that every object has.
    #[error("the object has no {0}")]
    Missing(&'static str),
    /// A field is not of the shape that it must have.
    #[error("{0} is not a map")]
    NotAMap(&'static str),
    /// A key stands both in `data` and in `stringData`.
    #[error("the key {0:?} stands in data and in stringData")]
    TwiceInSecret(String),
    /// A value of `stringData` that is no text.
    #[error("stringData.{0} is not a text: quote it")]
    NotText(String),
    /// Fields that the server writes.
    #[error("{0} is written by the API server: remove it")]
    ServerField(&'static str),
}

/// Prepare a manifest for the API server.
///
/// # Errors
/// The manifest cannot be an object, or says something that would be lost.
pub fn prepare(manifest: &Value, how: Preparation<'_>) -> Result<Value, PrepareError> {
    let mut object = manifest.clone();
    let text = |key: &'static str| {
        let text = manifest.get(key).and_then(Value::as_str);
        text.filter(|text| !text.is_empty())
            .ok_or(PrepareError::Missing(key))
    };
    let (api_version, kind) = (text("apiVersion")?, text("kind")?);
    let fields = object
        .as_object_mut()
        .ok_or(PrepareError::NotAMap("the document"))?;
    // What a live object was exported with; it is never ours to say.
    fields.remove("status");
    if kind == "Secret" && api_version == "v1" {
        string_data_to_data(fields)?;
    }
    let metadata = fields
        .get_mut("metadata")
        .ok_or(PrepareError::Missing("metadata"))?
        .as_object_mut()
        .ok_or(PrepareError::NotAMap("metadata"))?;
    let name = metadata.get("name").and_then(Value::as_str);
    if name.is_none_or(str::is_empty) {
        return Err(PrepareError::Missing("metadata.name"));
    }
    for (field, path) in [
        ("managedFields", "metadata.managedFields"),
        ("uid", "metadata.uid"),
        ("resourceVersion", "metadata.resourceVersion"),
    ] {
        if metadata.contains_key(field) {
            return Err(PrepareError::ServerField(path));
        }
    }
    // `kubectl create --dry-run` writes it as null.
    metadata.remove("creationTimestamp");
    let scoped = (how.cluster_scoped)(api_version, kind)
        .unwrap_or_else(|| is_cluster_scoped(api_version, kind));
    if !scoped && metadata.get("namespace").is_none_or(Value::is_null) {
        metadata.insert("namespace".to_owned(), how.namespace.into());
    }
    let labels = map_in(metadata, "labels", "metadata.labels")?;
    labels.insert(APPLICATION_LABEL.to_owned(), how.app.as_str().into());
    if let Some(mark) = how.mark {
        let annotations = map_in(metadata, "annotations", "metadata.annotations")?;
        annotations.insert(CREATION_MARK.to_owned(), mark.into());
    }
    Ok(object)
}

fn map_in<'a>(
    parent: &'a mut Map<String, Value>,
    key: &str,
    path: &'static str,
) -> Result<&'a mut Map<String, Value>, PrepareError> {
    let value = parent.entry(key).or_insert_with(|| json!({}));
    if value.is_null() {
        *value = json!({});
    }
    value.as_object_mut().ok_or(PrepareError::NotAMap(path))
}

fn string_data_to_data(fields: &mut Map<String, Value>) -> Result<(), PrepareError> {
    let Some(strings) = fields.remove("stringData") else {
        return Ok(());
    };
    let strings = match strings {
        Value::Null => return Ok(()),
        Value::Object(strings) => strings,
        _ => return Err(PrepareError::NotAMap("stringData")),
    };
    let data = map_in(fields, "data", "data")?;
    for (key, value) in strings {
        if data.contains_key(&key) {
            return Err(PrepareError::TwiceInSecret(key));
        }
        let Value::String(text) = value else {
            return Err(PrepareError::NotText(key));
        };
        data.insert(key, base64(text.as_bytes()).into());
    }
    Ok(())
}

/// Standard base64 with padding, as the API server writes it.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let letter = if place > chunk.len() {
                b'='
            } else {
                let six = usize::try_from(bits >> (18 - 6 * place) & 63).unwrap_or(0);
                ALPHABET.get(six).copied().unwrap_or(b'=')
            };
            out.push(char::from(letter));
        }
    }
    out
}

/// Whether a built-in kind has no namespace. Kinds of CustomResourceDefinitions are
/// taken for namespaced: what they are, only their definition or the server can say.
pub fn is_cluster_scoped(api_version: &str, kind: &str) -> bool {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    matches!(
        (group, kind),
        ("", "Namespace" | "Node" | "PersistentVolume")
            | ("apiextensions.k8s.io", "CustomResourceDefinition")
            | ("apiregistration.k8s.io", "APIService")
            | (
                "admissionregistration.k8s.io",
                "MutatingWebhookConfiguration"
                    | "ValidatingWebhookConfiguration"
                    | "MutatingAdmissionPolicy"
                    | "MutatingAdmissionPolicyBinding"
                    | "ValidatingAdmissionPolicy"
                    | "ValidatingAdmissionPolicyBinding"
            )
            | (
                "certificates.k8s.io",
                "CertificateSigningRequest" | "ClusterTrustBundle"
            )
            | (
                "flowcontrol.apiserver.k8s.io",
                "FlowSchema" | "PriorityLevelConfiguration"
            )
            | (
                "networking.k8s.io",
                "IngressClass" | "IPAddress" | "ServiceCIDR"
            )
            | ("node.k8s.io", "RuntimeClass")
            | (
                "rbac.authorization.k8s.io",
                "ClusterRole" | "ClusterRoleBinding"
            )
            | ("resource.k8s.io", "DeviceClass" | "ResourceSlice")
            | ("scheduling.k8s.io", "PriorityClass")
            | (
                "storage.k8s.io",
                "CSIDriver"
                    | "CSINode"
                    | "StorageClass"
                    | "VolumeAttachment"
                    | "VolumeAttributesClass"
            )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(manifest: Value) -> Result<Value, PrepareError> {
        let app: AppName = "web".parse().unwrap();
        prepare(
            &manifest,
            Preparation {
                app: &app,
                namespace: "shop",
                mark: Some("id-1"),
                cluster_scoped: &|_, kind| (kind == "Widget").then_some(true),
            },
        )
    }

    #[test]
    fn what_is_added() {
        let object = prepared(json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "a", "creationTimestamp": null, "labels": null}, "status": {}}));
        assert_eq!(
            object.unwrap(),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
                "name": "a", "namespace": "shop", "labels": {"trueup.dev/application": "web"},
                "annotations": {"trueup.dev/created-by": "id-1"}}})
        );
        for (api_version, kind) in [("v1", "Namespace"), ("x.y/v1", "Widget")] {
            let object =
                json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "a"}});
            assert_eq!(prepared(object).unwrap()["metadata"].get("namespace"), None);
        }
    }

    #[test]
    fn string_data_becomes_data() {
        for (text, wanted) in [
            ("", ""),
            ("a", "YQ=="),
            ("ab", "YWI="),
            ("abc", "YWJj"),
            ("ü?", "w7w/"),
        ] {
            let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"},
                "stringData": {"k": text}, "data": {"b": "Yg=="}});
            let object = prepared(secret).unwrap();
            assert_eq!(object["data"], json!({"b": "Yg==", "k": wanted}), "{text}");
            assert_eq!(object.get("stringData"), None);
        }
    }

    #[test]
    fn what_is_refused() {
        let table = [
            (
                json!({"kind": "A", "metadata": {"name": "a"}}),
                PrepareError::Missing("apiVersion"),
            ),
            (
                json!({"apiVersion": "v1", "kind": "A"}),
                PrepareError::Missing("metadata"),
            ),
            (
                json!({"apiVersion": "v1", "kind": "A", "metadata": {"generateName": "a"}}),
                PrepareError::Missing("metadata.name"),
            ),
            (
                json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": "a", "uid": "u"}}),
                PrepareError::ServerField("metadata.uid"),
            ),
            (
                json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"},
                    "data": {"k": ""}, "stringData": {"k": ""}}),
                PrepareError::TwiceInSecret("k".to_owned()),
            ),
            (
                json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"},
                    "stringData": {"k": 1}}),
                PrepareError::NotText("k".to_owned()),
            ),
        ];
        for (manifest, wanted) in table {
            assert_eq!(prepared(manifest.clone()), Err(wanted), "{manifest}");
        }
    }
}
