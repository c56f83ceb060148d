//! Controllers: workloads become ready, claims are bound, services get addresses.
//! There are no pods; a workload's status says what its pods would.

use serde_json::{Value, json};

use super::{Cluster, Key, text};

/// An image of this beginning is never found, as with the k3s double.
const MISSING: &str = "missing/";

impl Cluster {
    /// Let the controllers act; a rollout takes `takes_ms`.
    pub(crate) fn reconcile(&mut self, now_ms: i64, takes_ms: i64) {
        let nodes = self
            .objects
            .iter()
            .filter(|(key, _)| key.1 == "Node")
            .filter(|(_, stored)| super::node::fact_of(&stored.json).ready)
            .count();
        let mut statuses: Vec<(Key, Value)> = Vec::new();
        for (key, stored) in &self.objects {
            let due = stored.changed_ms + takes_ms <= now_ms;
            if let Some(status) = status_of(&stored.json, due, nodes) {
                statuses.push((key.clone(), status));
            }
        }
        for (key, status) in statuses {
            self.set_status(&key, &status, now_ms);
        }
    }
}

/// What a controller would write now; `None`: nothing.
fn status_of(json: &Value, due: bool, nodes: usize) -> Option<Value> {
    let generation = json
        .pointer("/metadata/generation")
        .cloned()
        .unwrap_or_default();
    let replicas = json
        .pointer("/spec/replicas")
        .and_then(Value::as_i64)
        .unwrap_or(1);
    let image = images(json).any(|image| image.starts_with(MISSING));
    let up = if image || nodes == 0 { 0 } else { replicas };
    match text(json, "/kind") {
        "Deployment" if due => {
            let available = if up == replicas { "True" } else { "False" };
            Some(json!({
                "observedGeneration": generation, "replicas": replicas, "updatedReplicas": replicas,
                "readyReplicas": up, "availableReplicas": up,
                "conditions": [
                    {"type": "Available", "status": available, "reason": "MinimumReplicas"},
                    {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"},
                ],
            }))
        }
        "StatefulSet" | "ReplicaSet" if due => Some(json!({
            "observedGeneration": generation, "replicas": replicas, "updatedReplicas": replicas,
            "readyReplicas": up, "availableReplicas": up, "currentRevision": "1",
            "updateRevision": "1",
        })),
        "DaemonSet" if due => {
            let up = if image { 0 } else { nodes };
            Some(json!({
                "observedGeneration": generation, "desiredNumberScheduled": nodes,
                "currentNumberScheduled": nodes, "updatedNumberScheduled": nodes,
                "numberAvailable": up, "numberReady": up,
            }))
        }
        "Job" if due && !image => Some(json!({
            "succeeded": json.pointer("/spec/completions"),
            "conditions": [{"type": "Complete", "status": "True"}],
        })),
        "PersistentVolumeClaim" if due => Some(json!({"phase": "Bound"})),
        "Service" if text(json, "/spec/type") == "LoadBalancer" => {
            Some(json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.21"}]}}))
        }
        "CustomResourceDefinition" => Some(json!({"conditions": [
            {"type": "NamesAccepted", "status": "True"}, {"type": "Established", "status": "True"},
        ]})),
        _ => None,
    }
}

fn images(json: &Value) -> impl Iterator<Item = &str> {
    let containers = json
        .pointer("/spec/template/spec/containers")
        .and_then(Value::as_array);
    containers
        .into_iter()
        .flatten()
        .map(|container| text(container, "/image"))
}
