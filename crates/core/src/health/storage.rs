//! Kinds that are given something: a volume, an address, a place in the API.

use serde_json::Value;

use super::condition::{Conditions, State};
use super::{Health, generic};

pub(super) fn claim(object: &Value) -> Health {
    match object.pointer("/status/phase").and_then(Value::as_str) {
        Some("Bound") => Health::Current,
        Some("Lost") => Health::Failed("its volume is lost".to_owned()),
        Some(phase) => Health::InProgress(format!("the claim is {phase}, not Bound")),
        None => Health::InProgress("the claim is not bound yet".to_owned()),
    }
}

pub(super) fn service(object: &Value) -> Health {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    if text("/spec/type") != Some("LoadBalancer") {
        return Health::Current;
    }
    let given = object
        .pointer("/status/loadBalancer/ingress")
        .and_then(Value::as_array)
        .is_some_and(|list| !list.is_empty());
    if given {
        Health::Current
    } else {
        Health::InProgress("no address from a load balancer yet".to_owned())
    }
}

pub(super) fn namespace(object: &Value) -> Health {
    match object.pointer("/status/phase").and_then(Value::as_str) {
        Some("Terminating") => Health::Terminating,
        _ => Health::Current,
    }
}

pub(super) fn definition(object: &Value) -> Health {
    let conditions = Conditions::of(object);
    if let Some(refused) = conditions.with("NamesAccepted", State::False) {
        return Health::Failed(refused.why());
    }
    // A second `False` of Established while the server installs it is ordinary.
    match conditions.get("Established") {
        Some(found) if found.state == State::True => generic(object),
        Some(found) => Health::InProgress(found.why()),
        None => Health::InProgress("the API server has not taken it up yet".to_owned()),
    }
}
