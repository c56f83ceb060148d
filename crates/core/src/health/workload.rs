//! Workloads: what runs pods, and pods.

use serde_json::Value;

use super::condition::{Conditions, State};
use super::{Health, number};

fn waits(what: &str, have: i64, want: i64) -> Health {
    Health::InProgress(format!("{what}: {have}/{want}"))
}

/// A status that no controller has written yet.
fn unwritten(object: &Value) -> Option<Health> {
    let written = object.pointer("/status/observedGeneration").is_some();
    (!written).then(|| Health::InProgress("no controller has seen it yet".to_owned()))
}

/// `spec.replicas`; the API server fills 1 in.
fn replicas(object: &Value) -> i64 {
    number(object, "/spec/replicas", 1)
}

pub(super) fn deployment(object: &Value) -> Health {
    let conditions = Conditions::of(object);
    // The controller gives up after spec.progressDeadlineSeconds (default 10 minutes).
    if let Some(progress) = conditions.get("Progressing")
        && progress.reason == "ProgressDeadlineExceeded"
    {
        return Health::Failed(progress.why());
    }
    if let Some(failure) = conditions.with("ReplicaFailure", State::True) {
        return Health::InProgress(failure.why());
    }
    if let Some(waits) = unwritten(object) {
        return waits;
    }
    let want = replicas(object);
    let all = number(object, "/status/replicas", 0);
    let updated = number(object, "/status/updatedReplicas", 0);
    let ready = number(object, "/status/readyReplicas", 0);
    let available = number(object, "/status/availableReplicas", 0);
    if updated < want {
        return waits("updated replicas", updated, want);
    }
    if all > updated {
        return Health::InProgress(format!("old replicas to go: {}", all - updated));
    }
    if available < updated {
        return waits("available replicas", available, updated);
    }
    if ready < want {
        return waits("ready replicas", ready, want);
    }
    match conditions.get("Available") {
        Some(found) if found.state != State::True => Health::InProgress(found.why()),
        _ => Health::Current,
    }
}

pub(super) fn stateful_set(object: &Value) -> Health {
    let strategy = object
        .pointer("/spec/updateStrategy/type")
        .and_then(Value::as_str);
    if let Some(waits) = unwritten(object) {
        return waits;
    }
    let want = replicas(object);
    let all = number(object, "/status/replicas", 0);
    let ready = number(object, "/status/readyReplicas", 0);
    if all < want {
        return waits("replicas", all, want);
    }
    if ready < want {
        return waits("ready replicas", ready, want);
    }
    if all > want {
        return Health::InProgress(format!("replicas to go: {}", all - want));
    }
    // Pods are replaced by whoever deletes them.
    if strategy == Some("OnDelete") {
        return Health::Current;
    }
    let partition = number(object, "/spec/updateStrategy/rollingUpdate/partition", 0);
    let updated = number(object, "/status/updatedReplicas", 0);
    if partition > 0 {
        let due = (want - partition).max(0);
        return if updated < due {
            waits("updated replicas above the partition", updated, due)
        } else {
            Health::Current
        };
    }
    let revision = |key: &str| object.pointer(key).and_then(Value::as_str);
    let current = revision("/status/currentRevision");
    if current != revision("/status/updateRevision") {
        return waits("updated replicas", updated, want);
    }
    Health::Current
}

pub(super) fn daemon_set(object: &Value) -> Health {
    if let Some(waits) = unwritten(object) {
        return waits;
    }
    let want = number(object, "/status/desiredNumberScheduled", -1);
    if want < 0 {
        return Health::InProgress("it is not known yet on how many nodes it runs".to_owned());
    }
    for (pointer, what) in [
        ("/status/currentNumberScheduled", "scheduled"),
        ("/status/updatedNumberScheduled", "updated"),
        ("/status/numberAvailable", "available"),
        ("/status/numberReady", "ready"),
    ] {
        let on_delete = object
            .pointer("/spec/updateStrategy/type")
            .and_then(Value::as_str)
            == Some("OnDelete");
        if what == "updated" && on_delete {
            continue;
        }
        let have = number(object, pointer, 0);
        if have < want {
            return waits(&format!("{what} on nodes"), have, want);
        }
    }
    Health::Current
}

pub(super) fn replica_set(object: &Value) -> Health {
    if let Some(failure) = Conditions::of(object).with("ReplicaFailure", State::True) {
        return Health::InProgress(failure.why());
    }
    if let Some(waits) = unwritten(object) {
        return waits;
    }
    let want = replicas(object);
    for (pointer, what) in [
        ("/status/replicas", "replicas"),
        ("/status/availableReplicas", "available replicas"),
        ("/status/readyReplicas", "ready replicas"),
    ] {
        let have = number(object, pointer, 0);
        if have < want {
            return waits(what, have, want);
        }
    }
    let all = number(object, "/status/replicas", 0);
    if all > want {
        return Health::InProgress(format!("replicas to go: {}", all - want));
    }
    Health::Current
}

/// kstatus calls a running Job Current. An Application whose migration still runs is
/// not there yet, so here it is in progress until it is complete.
pub(super) fn job(object: &Value) -> Health {
    let conditions = Conditions::of(object);
    if let Some(failed) = conditions.with("Failed", State::True) {
        return Health::Failed(failed.why());
    }
    if conditions.with("Complete", State::True).is_some() {
        return Health::Current;
    }
    if object.pointer("/spec/suspend").and_then(Value::as_bool) == Some(true) {
        // Somebody asked for it not to run: it does what it is asked.
        return Health::Current;
    }
    let want = number(object, "/spec/completions", 1);
    let done = number(object, "/status/succeeded", 0);
    waits("completions", done, want)
}

pub(super) fn pod(object: &Value) -> Health {
    let conditions = Conditions::of(object);
    let phase = object.pointer("/status/phase").and_then(Value::as_str);
    match phase {
        Some("Succeeded") => Health::Current,
        Some("Failed") => Health::Failed(
            object
                .pointer("/status/message")
                .and_then(Value::as_str)
                .unwrap_or("the pod has failed")
                .to_owned(),
        ),
        Some("Running") => match conditions.get("Ready") {
            Some(ready) if ready.state == State::True => Health::Current,
            Some(ready) => {
                crash_of(object).map_or_else(|| Health::InProgress(ready.why()), Health::Failed)
            }
            None => Health::InProgress("the pod is not ready yet".to_owned()),
        },
        Some("Pending") => match conditions.with("PodScheduled", State::False) {
            Some(found) => Health::InProgress(found.why()),
            None => crash_of(object).map_or_else(
                || Health::InProgress("the pod is pending".to_owned()),
                Health::Failed,
            ),
        },
        Some(other) => Health::Unknown(format!("the pod's phase is {other}")),
        None => Health::InProgress("the pod has not been seen by a node yet".to_owned()),
    }
}

/// A container that the kubelet has given up starting for now.
fn crash_of(pod: &Value) -> Option<String> {
    for list in ["/status/initContainerStatuses", "/status/containerStatuses"] {
        let containers = pod.pointer(list).and_then(Value::as_array);
        for container in containers.into_iter().flatten() {
            let reason = container
                .pointer("/state/waiting/reason")
                .and_then(Value::as_str);
            let Some(reason) = reason else { continue };
            let given_up = matches!(
                reason,
                "CrashLoopBackOff"
                    | "ImagePullBackOff"
                    | "ErrImagePull"
                    | "InvalidImageName"
                    | "CreateContainerConfigError"
                    | "CreateContainerError"
            );
            if given_up {
                let name = container.get("name").and_then(Value::as_str).unwrap_or("?");
                return Some(format!("container {name}: {reason}"));
            }
        }
    }
    None
}
