//! A Kubernetes Node as a fact.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use trueup_model::facts::cluster::{NodeObject, RawTaint};
use trueup_model::facts::object::FIELD_MANAGER;

/// The fact of a Node's JSON. What is missing is empty: the API server leaves empty
/// lists and maps out.
pub(crate) fn fact_of(object: &Value) -> NodeObject {
    let metadata = object.get("metadata").unwrap_or(&Value::Null);
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let status = object.get("status").unwrap_or(&Value::Null);
    let text = |value: Option<&Value>| {
        let text = value.and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    NodeObject {
        uid: text(metadata.get("uid")),
        ready: condition(status, "Ready").is_some_and(|state| state == "True"),
        unschedulable: spec
            .get("unschedulable")
            .and_then(Value::as_bool)
            .unwrap_or(false),
        labels: texts(metadata.get("labels")),
        annotations: texts(metadata.get("annotations")),
        taints: taints(spec),
        kubelet_version: text(
            status
                .get("nodeInfo")
                .and_then(|info| info.get("kubeletVersion")),
        ),
        etcd_voter: condition(status, "EtcdIsVoter").map(|state| state == "True"),
        owned_labels: owned_labels(metadata),
    }
}

fn condition<'a>(status: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = status.get("conditions")?.as_array()?;
    let found = conditions
        .iter()
        .find(|condition| condition.get("type").and_then(Value::as_str) == Some(kind))?;
    found.get("status")?.as_str()
}

fn texts(map: Option<&Value>) -> BTreeMap<String, String> {
    let map = map.and_then(Value::as_object);
    map.into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

fn taints(spec: &Value) -> Vec<RawTaint> {
    let list = spec.get("taints").and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(|taint| serde_json::from_value(taint.clone()).ok())
        .collect()
}

/// Label keys of the managed-fields entry of our apply.
fn owned_labels(metadata: &Value) -> Vec<String> {
    let entries = metadata.get("managedFields").and_then(Value::as_array);
    let mut keys: Vec<String> = entries
        .into_iter()
        .flatten()
        .filter(|entry| {
            let is =
                |key: &str, wanted: &str| entry.get(key).and_then(Value::as_str) == Some(wanted);
            is("manager", FIELD_MANAGER) && is("operation", "Apply")
        })
        .filter_map(|entry| entry.get("fieldsV1")?.get("f:metadata")?.get("f:labels"))
        .filter_map(Value::as_object)
        .flat_map(|labels| labels.keys())
        .filter_map(|key| key.strip_prefix("f:").map(str::to_owned))
        .collect();
    keys.sort();
    keys.dedup();
    keys
}

/// A taint list as the API server has it: empty values are left out there, and a
/// `test` compares text by text.
pub(crate) fn taints_json(taints: &[RawTaint]) -> Value {
    let list = taints
        .iter()
        .map(|taint| {
            let mut json = json!({"key": taint.key, "effect": taint.effect});
            if let Some(fields) = json.as_object_mut() {
                if !taint.value.is_empty() {
                    fields.insert("value".to_owned(), taint.value.clone().into());
                }
                if let Some(time) = &taint.time_added {
                    fields.insert("timeAdded".to_owned(), time.clone().into());
                }
            }
            json
        })
        .collect();
    Value::Array(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_read() {
        let node = json!({
            "metadata": {"uid": "u", "labels": {"a": "1"}, "managedFields": [
                {"manager": "trueup", "operation": "Apply",
                 "fieldsV1": {"f:metadata": {"f:labels": {"f:a": {}}}}},
                {"manager": "kubelet", "operation": "Update",
                 "fieldsV1": {"f:metadata": {"f:labels": {"f:b": {}}}}}]},
            "spec": {"taints": [{"key": "k", "effect": "NoExecute", "timeAdded": "2026-01-02T03:04:05Z"}]},
            "status": {"nodeInfo": {"kubeletVersion": "v1.36.3+k3s1"}, "conditions": [
                {"type": "Ready", "status": "True"}, {"type": "EtcdIsVoter", "status": "False"}]}
        });
        let fact = fact_of(&node);
        assert!(fact.ready);
        assert_eq!(fact.etcd_voter, Some(false));
        assert_eq!(fact.owned_labels, ["a"]);
        assert_eq!(fact.kubelet_version, "v1.36.3+k3s1");
        assert_eq!(taints_json(&fact.taints), node["spec"]["taints"]);
    }
}
