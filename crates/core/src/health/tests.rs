use serde_json::json;

use super::*;

#[derive(Debug, PartialEq)]
enum Word {
    Current,
    InProgress,
    Failed,
    Terminating,
    Unknown,
}

fn word(health: &Health) -> Word {
    match health {
        Health::Current => Word::Current,
        Health::InProgress(_) => Word::InProgress,
        Health::Failed(_) => Word::Failed,
        Health::Terminating => Word::Terminating,
        Health::Unknown(_) => Word::Unknown,
    }
}

/// Each row: kind, spec, status, what it is.
fn check(api_version: &str, kind: &str, rows: Vec<(Value, Value, Word)>) {
    for (spec, status, wanted) in rows {
        let object = json!({"apiVersion": api_version, "kind": kind,
            "metadata": {"name": "x", "generation": 2}, "spec": spec, "status": status});
        let found = of(&object);
        assert_eq!(word(&found), wanted, "{kind} {spec} {status}: {found}");
    }
}

#[test]
fn deployments() {
    let status = |replicas: i64, updated: i64, ready: i64, available: i64| {
        json!({"observedGeneration": 2, "replicas": replicas, "updatedReplicas": updated,
            "readyReplicas": ready, "availableReplicas": available,
            "conditions": [{"type": "Available", "status": "True"}]})
    };
    let spec = || json!({"replicas": 3});
    let condition = |kind: &str, state: &str, reason: &str| {
        json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3,
            "availableReplicas": 3, "conditions": [{"type": kind, "status": state, "reason": reason}]})
    };
    check(
        "apps/v1",
        "Deployment",
        vec![
            (spec(), json!({}), Word::InProgress),
            (spec(), json!({"observedGeneration": 1}), Word::InProgress),
            (spec(), status(3, 3, 3, 3), Word::Current),
            (spec(), status(4, 3, 3, 3), Word::InProgress),
            (spec(), status(3, 2, 3, 3), Word::InProgress),
            (spec(), status(3, 3, 3, 2), Word::InProgress),
            (spec(), status(3, 3, 2, 3), Word::InProgress),
            (json!({"replicas": 0}), status(0, 0, 0, 0), Word::Current),
            (
                spec(),
                condition("Progressing", "False", "ProgressDeadlineExceeded"),
                Word::Failed,
            ),
            (
                spec(),
                condition("Available", "False", "Min"),
                Word::InProgress,
            ),
            (
                spec(),
                condition("ReplicaFailure", "True", "Quota"),
                Word::InProgress,
            ),
        ],
    );
}

#[test]
fn stateful_sets() {
    let status = |all: i64, ready: i64, updated: i64, current: &str| {
        json!({"observedGeneration": 2, "replicas": all, "readyReplicas": ready,
            "updatedReplicas": updated, "currentRevision": current, "updateRevision": "b"})
    };
    check(
        "apps/v1",
        "StatefulSet",
        vec![
            (json!({"replicas": 2}), json!({}), Word::InProgress),
            (json!({"replicas": 2}), status(2, 2, 2, "b"), Word::Current),
            (
                json!({"replicas": 2}),
                status(2, 2, 1, "a"),
                Word::InProgress,
            ),
            (
                json!({"replicas": 2}),
                status(1, 1, 1, "b"),
                Word::InProgress,
            ),
            (
                json!({"replicas": 2}),
                status(2, 1, 2, "b"),
                Word::InProgress,
            ),
            (
                json!({"replicas": 2}),
                status(3, 3, 3, "b"),
                Word::InProgress,
            ),
            (
                json!({"replicas": 2, "updateStrategy": {"type": "OnDelete"}}),
                status(2, 2, 0, "a"),
                Word::Current,
            ),
            (
                json!({"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": 2}}}),
                status(3, 3, 1, "a"),
                Word::Current,
            ),
            (
                json!({"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": 1}}}),
                status(3, 3, 1, "a"),
                Word::InProgress,
            ),
        ],
    );
}

#[test]
fn daemon_sets_replica_sets_and_jobs() {
    let status = |scheduled: i64, updated: i64, available: i64, ready: i64| {
        json!({"observedGeneration": 2, "desiredNumberScheduled": 2,
            "currentNumberScheduled": scheduled, "updatedNumberScheduled": updated,
            "numberAvailable": available, "numberReady": ready})
    };
    check(
        "apps/v1",
        "DaemonSet",
        vec![
            (
                json!({}),
                json!({"observedGeneration": 2}),
                Word::InProgress,
            ),
            (json!({}), status(2, 2, 2, 2), Word::Current),
            (json!({}), status(1, 2, 2, 2), Word::InProgress),
            (json!({}), status(2, 1, 2, 2), Word::InProgress),
            (json!({}), status(2, 2, 1, 2), Word::InProgress),
            (
                json!({"updateStrategy": {"type": "OnDelete"}}),
                status(2, 0, 2, 2),
                Word::Current,
            ),
        ],
    );
    let replicas = |all: i64, ready: i64, available: i64| {
        json!({"observedGeneration": 2, "replicas": all, "readyReplicas": ready,
            "availableReplicas": available})
    };
    check(
        "apps/v1",
        "ReplicaSet",
        vec![
            (json!({"replicas": 2}), replicas(2, 2, 2), Word::Current),
            (json!({"replicas": 2}), replicas(2, 1, 2), Word::InProgress),
            (json!({"replicas": 1}), replicas(2, 2, 2), Word::InProgress),
        ],
    );
    let condition =
        |kind: &str| json!({"conditions": [{"type": kind, "status": "True", "message": "m"}]});
    check(
        "batch/v1",
        "Job",
        vec![
            (json!({}), json!({"active": 1}), Word::InProgress),
            (json!({}), condition("Complete"), Word::Current),
            (json!({}), condition("Failed"), Word::Failed),
            (json!({"suspend": true}), json!({}), Word::Current),
        ],
    );
}

#[test]
fn pods() {
    let ready = |state: &str| json!([{"type": "Ready", "status": state}]);
    let waiting = json!([{"name": "app", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]);
    check(
        "v1",
        "Pod",
        vec![
            (json!({}), json!({}), Word::InProgress),
            (json!({}), json!({"phase": "Pending"}), Word::InProgress),
            (
                json!({}),
                json!({"phase": "Running", "conditions": ready("True")}),
                Word::Current,
            ),
            (
                json!({}),
                json!({"phase": "Running", "conditions": ready("False")}),
                Word::InProgress,
            ),
            (
                json!({}),
                json!({"phase": "Running", "conditions": ready("False"), "containerStatuses": waiting}),
                Word::Failed,
            ),
            (json!({}), json!({"phase": "Succeeded"}), Word::Current),
            (json!({}), json!({"phase": "Failed"}), Word::Failed),
            (json!({}), json!({"phase": "Odd"}), Word::Unknown),
        ],
    );
}

#[test]
fn what_is_given_something() {
    check(
        "v1",
        "PersistentVolumeClaim",
        vec![
            (json!({}), json!({"phase": "Bound"}), Word::Current),
            (json!({}), json!({"phase": "Pending"}), Word::InProgress),
            (json!({}), json!({"phase": "Lost"}), Word::Failed),
        ],
    );
    let ingress = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
    check(
        "v1",
        "Service",
        vec![
            (json!({"type": "ClusterIP"}), json!({}), Word::Current),
            (
                json!({"type": "LoadBalancer"}),
                json!({"loadBalancer": {}}),
                Word::InProgress,
            ),
            (json!({"type": "LoadBalancer"}), ingress, Word::Current),
        ],
    );
    check(
        "v1",
        "Namespace",
        vec![
            (json!({}), json!({"phase": "Active"}), Word::Current),
            (
                json!({}),
                json!({"phase": "Terminating"}),
                Word::Terminating,
            ),
        ],
    );
    let condition = |kind: &str, state: &str| json!({"conditions": [{"type": kind, "status": state, "reason": "r"}]});
    check(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        vec![
            (json!({}), json!({}), Word::InProgress),
            (
                json!({}),
                condition("Established", "False"),
                Word::InProgress,
            ),
            (json!({}), condition("Established", "True"), Word::Current),
            (json!({}), condition("NamesAccepted", "False"), Word::Failed),
        ],
    );
}

#[test]
fn other_kinds_by_their_conditions() {
    let condition = |kind: &str, state: &str| json!({"observedGeneration": 2, "conditions": [{"type": kind, "status": state}]});
    check(
        "example.invalid/v1",
        "Widget",
        vec![
            (json!({}), json!({}), Word::Current),
            (json!({}), condition("Ready", "True"), Word::Current),
            (json!({}), condition("Ready", "False"), Word::InProgress),
            (json!({}), condition("Ready", "Unknown"), Word::InProgress),
            (
                json!({}),
                condition("Reconciling", "True"),
                Word::InProgress,
            ),
            (json!({}), condition("Stalled", "True"), Word::Failed),
            (
                json!({}),
                json!({"observedGeneration": 1}),
                Word::InProgress,
            ),
        ],
    );
    let deleted = json!({"kind": "Widget", "apiVersion": "x/v1",
        "metadata": {"deletionTimestamp": "2026-01-02T03:04:05Z"}});
    assert_eq!(of(&deleted), Health::Terminating);
    assert_eq!(word(&of(&json!({}))), Word::Unknown);
}
