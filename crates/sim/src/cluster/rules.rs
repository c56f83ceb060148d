//! What the API server refuses of single kinds.

use serde_json::Value;
use trueup_model::port::ApplyRefusal;

use super::text;

const WORKLOADS: &[&str] = &["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"];

/// Judge an object as it would stand beside the one that stands.
pub(crate) fn kind_rules(before: Option<&Value>, after: &Value) -> Result<(), ApplyRefusal> {
    let kind = text(after, "/kind");
    if !WORKLOADS.contains(&kind) {
        return Ok(());
    }
    let name = text(after, "/metadata/name");
    let refuse = |field: &str, why: &str| {
        Err(ApplyRefusal::Invalid(format!(
            "{kind} {name:?} is invalid: {field}: {why}"
        )))
    };
    let Some(selector) = after.pointer("/spec/selector").filter(|it| it.is_object()) else {
        return refuse("spec.selector", "Required value");
    };
    if let Some(before) = before
        && before.pointer("/spec/selector") != Some(selector)
    {
        return refuse("spec.selector", "field is immutable");
    }
    let labels = after.pointer("/spec/template/metadata/labels");
    let wanted = selector.get("matchLabels").and_then(Value::as_object);
    let matches = wanted
        .into_iter()
        .flatten()
        .all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value));
    if !matches {
        return refuse(
            "spec.template.metadata.labels",
            "`selector` does not match template `labels`",
        );
    }
    let containers = after
        .pointer("/spec/template/spec/containers")
        .and_then(Value::as_array);
    match containers {
        None => refuse("spec.template.spec.containers", "Required value"),
        Some(list)
            if list
                .iter()
                .any(|container| text(container, "/image").is_empty()) =>
        {
            refuse("spec.template.spec.containers[0].image", "Required value")
        }
        Some(_) => Ok(()),
    }
}
