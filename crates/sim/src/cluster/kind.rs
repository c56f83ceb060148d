//! Kinds that the API serves.

use serde_json::Value;

use super::{Cluster, text};

/// Group, kind, and whether it lives in namespaces.
const SERVED: &[(&str, &str, bool)] = &[
    ("", "ConfigMap", true),
    ("", "Endpoints", true),
    ("", "Event", true),
    ("", "LimitRange", true),
    ("", "Namespace", false),
    ("", "Node", false),
    ("", "PersistentVolume", false),
    ("", "PersistentVolumeClaim", true),
    ("", "Pod", true),
    ("", "ResourceQuota", true),
    ("", "Secret", true),
    ("", "Service", true),
    ("", "ServiceAccount", true),
    ("apiextensions.k8s.io", "CustomResourceDefinition", false),
    ("apps", "DaemonSet", true),
    ("apps", "Deployment", true),
    ("apps", "ReplicaSet", true),
    ("apps", "StatefulSet", true),
    ("autoscaling", "HorizontalPodAutoscaler", true),
    ("batch", "CronJob", true),
    ("batch", "Job", true),
    ("coordination.k8s.io", "Lease", true),
    ("networking.k8s.io", "Ingress", true),
    ("networking.k8s.io", "IngressClass", false),
    ("networking.k8s.io", "NetworkPolicy", true),
    ("policy", "PodDisruptionBudget", true),
    ("rbac.authorization.k8s.io", "ClusterRole", false),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding", false),
    ("rbac.authorization.k8s.io", "Role", true),
    ("rbac.authorization.k8s.io", "RoleBinding", true),
    ("scheduling.k8s.io", "PriorityClass", false),
    ("storage.k8s.io", "StorageClass", false),
];

/// Group of an `apiVersion`.
pub(crate) fn kind_of_group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// Whether a kind lives in namespaces; `None`: it is not served.
pub(crate) fn is_namespaced(cluster: &Cluster, api_version: &str, kind: &str) -> Option<bool> {
    let group = kind_of_group(api_version);
    let built_in = SERVED
        .iter()
        .find(|(g, k, _)| *g == group && *k == kind)
        .map(|(_, _, namespaced)| *namespaced);
    built_in.or_else(|| {
        let definition = cluster
            .objects
            .values()
            .map(|stored| &stored.json)
            .find(|json| {
                text(json, "/kind") == "CustomResourceDefinition"
                    && text(json, "/spec/group") == group
                    && text(json, "/spec/names/kind") == kind
            })?;
        serves(definition, api_version).then(|| text(definition, "/spec/scope") != "Cluster")
    })
}

fn serves(definition: &Value, api_version: &str) -> bool {
    let version = api_version.rsplit('/').next().unwrap_or_default();
    let versions = definition
        .pointer("/spec/versions")
        .and_then(Value::as_array);
    versions
        .into_iter()
        .flatten()
        .any(|entry| text(entry, "/name") == version)
}
