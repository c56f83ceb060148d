//! Whether a live object has become what it asks for: kstatus' rules, as kubectl and
//! Flux use them (sigs.k8s.io/cli-utils, pkg/kstatus). An object that says nothing of
//! itself is Current as soon as it exists.

mod condition;
mod storage;
mod workload;

use std::fmt;

use serde_json::Value;

use self::condition::{Conditions, State};

/// What an object says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It is what it asks for.
    Current,
    /// It is getting there: what it waits for.
    InProgress(String),
    /// It will not get there by itself: why.
    Failed(String),
    /// It is being deleted.
    Terminating,
    /// It cannot be told: why.
    Unknown(String),
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Current => f.write_str("healthy"),
            Self::InProgress(why) => write!(f, "in progress: {why}"),
            Self::Failed(why) => write!(f, "failed: {why}"),
            Self::Terminating => f.write_str("being deleted"),
            Self::Unknown(why) => write!(f, "unknown: {why}"),
        }
    }
}

/// The health of a live object.
pub fn of(object: &Value) -> Health {
    if object
        .pointer("/metadata/deletionTimestamp")
        .is_some_and(|time| !time.is_null())
    {
        return Health::Terminating;
    }
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    if text("kind").is_empty() {
        return Health::Unknown("it has no kind".to_owned());
    }
    // Nothing that a status says counts before its controller has seen this spec.
    if let Some(waits) = unobserved(object) {
        return waits;
    }
    let group = text("apiVersion")
        .split_once('/')
        .map_or("", |(group, _)| group);
    match (group, text("kind")) {
        ("apps", "Deployment") => workload::deployment(object),
        ("apps", "StatefulSet") => workload::stateful_set(object),
        ("apps", "DaemonSet") => workload::daemon_set(object),
        ("apps", "ReplicaSet") => workload::replica_set(object),
        ("batch", "Job") => workload::job(object),
        ("", "Pod") => workload::pod(object),
        ("", "PersistentVolumeClaim") => storage::claim(object),
        ("", "Service") => storage::service(object),
        ("", "Namespace") => storage::namespace(object),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => storage::definition(object),
        _ => generic(object),
    }
}

/// The controller has not yet seen the object's latest generation.
fn unobserved(object: &Value) -> Option<Health> {
    let generation = object.pointer("/metadata/generation")?.as_i64()?;
    let observed = object.pointer("/status/observedGeneration")?.as_i64()?;
    (observed < generation).then(|| {
        Health::InProgress(format!(
            "generation {generation} has not been observed yet (the last was {observed})"
        ))
    })
}

/// Any other kind, by the conditions that most controllers agree on.
fn generic(object: &Value) -> Health {
    let conditions = Conditions::of(object);
    if let Some(stalled) = conditions.with("Stalled", State::True) {
        return Health::Failed(stalled.why());
    }
    if let Some(reconciling) = conditions.with("Reconciling", State::True) {
        return Health::InProgress(reconciling.why());
    }
    match conditions.get("Ready") {
        None => Health::Current,
        Some(ready) => match ready.state {
            State::True => Health::Current,
            State::False | State::Unknown => Health::InProgress(ready.why()),
        },
    }
}

/// A number of a status, or what stands for a missing one.
fn number(object: &Value, pointer: &str, missing: i64) -> i64 {
    object
        .pointer(pointer)
        .and_then(Value::as_i64)
        .unwrap_or(missing)
}

#[cfg(test)]
mod tests;
