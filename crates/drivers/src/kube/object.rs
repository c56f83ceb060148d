//! Objects: server-side apply, get, delete.

use http::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use trueup_model::facts::object::{Answer, FIELD_MANAGER, LiveObject, ObjectRef};
use trueup_model::port::{ApplyRefusal, ClusterError, Force};

use super::answer::{Quote, Status, error_of, json_of, refusal_of};
use super::cache::Subject;
use super::caller::Call;
use super::hub::Hub;
use super::resource::{NoResource, Resource, path_of};
use super::wire::Fault;

/// The content type of server-side apply; JSON is YAML.
pub(crate) const APPLY: &str = "application/apply-patch+yaml";

/// The name of an object by its own fields.
fn reference_of(object: &Value) -> Result<ObjectRef, ApplyRefusal> {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let metadata = object.get("metadata");
    let wanted = |value: Option<String>, what: &str| {
        value
            .filter(|text| !text.is_empty())
            .ok_or_else(|| ApplyRefusal::Invalid(format!("the object has no {what}")))
    };
    Ok(ObjectRef {
        api_version: wanted(text(object.get("apiVersion")), "apiVersion")?,
        kind: wanted(text(object.get("kind")), "kind")?,
        namespace: text(metadata.and_then(|metadata| metadata.get("namespace")))
            .unwrap_or_default(),
        name: wanted(
            text(metadata.and_then(|metadata| metadata.get("name"))),
            "metadata.name",
        )?,
    })
}

/// Server-side apply.
pub(crate) async fn apply(
    hub: &Hub,
    object: &Value,
    force: Force,
    dry_run: bool,
) -> Result<Answer, ApplyRefusal> {
    let name = reference_of(object)?;
    let resource = resource_for_apply(hub, &name).await?;
    let mut path = format!(
        "{}?fieldManager={FIELD_MANAGER}&fieldValidation=Strict&force={}",
        path_of(&resource, &name),
        force == Force::Yes,
    );
    if dry_run {
        path.push_str("&dryRun=All");
    }
    let call = Call::with_body(Method::PATCH, path, APPLY, object);
    let reply = hub.caller.call(&call).await.map_err(|fault| match fault {
        // A dry run has no effect that could be unknown.
        Fault::Lost(why) if dry_run => ApplyRefusal::Later(why),
        fault => refusal_of(fault),
    })?;
    if !matches!(reply.code, 200 | 201) {
        let status = Status::of(&reply);
        if reply.code == 404 && status.details.kind != "namespaces" {
            hub.resources.forget(&name.api_version, &name.kind);
        }
        return Err(status.refusal(Quote::of_kind(&name.kind)));
    }
    let json: Value = serde_json::from_slice(&reply.body)
        .map_err(|error| ApplyRefusal::Unknown(format!("the answer is no JSON: {error}")))?;
    if !dry_run {
        learn(hub, &name, &json);
    }
    let uid = json.pointer("/metadata/uid").and_then(Value::as_str);
    Ok(Answer {
        uid: uid.unwrap_or_default().to_owned(),
        created: reply.code == 201,
        json: Arc::new(json),
    })
}

async fn resource_for_apply(hub: &Hub, name: &ObjectRef) -> Result<Resource, ApplyRefusal> {
    let resource = hub
        .resources
        .find(&hub.caller, &name.api_version, &name.kind)
        .await
        .map_err(|no| match no {
            NoResource::NotThere(why) => ApplyRefusal::NotYet(why),
            // Nothing was sent yet.
            NoResource::Fault(Fault::Credential(why)) => ApplyRefusal::Forbidden(why),
            NoResource::Fault(fault) => ApplyRefusal::Later(fault.why().to_owned()),
            NoResource::Status(status) => status.refusal(Quote::Yes),
        })?;
    match (resource.namespaced, name.namespace.is_empty()) {
        (true, true) => Err(ApplyRefusal::Invalid(format!(
            "{name} needs a namespace: its kind lives in namespaces"
        ))),
        (false, false) => Err(ApplyRefusal::Invalid(format!(
            "{name} must not have a namespace: its kind has none"
        ))),
        _ => Ok(resource),
    }
}

/// What our own write says of the world, before the watch repeats it: whoever reads
/// facts next sees what was written.
fn learn(hub: &Hub, name: &ObjectRef, json: &Value) {
    if name.kind == "CustomResourceDefinition"
        && let Some(group) = json.pointer("/spec/group").and_then(Value::as_str)
    {
        hub.resources.forget_group(group);
    }
    let subject = Subject::Kind(name.api_version.clone(), name.kind.clone());
    hub.change(|state| {
        if state.feeds.get(&subject).is_some_and(|feed| feed.in_step) {
            state.cache.put(&subject, json.clone());
        }
    });
}

/// One object by name.
pub(crate) async fn get(
    hub: &Hub,
    cluster: &str,
    object: &ObjectRef,
) -> Result<Option<LiveObject>, ClusterError> {
    let what = format!("getting {object}");
    let Some(resource) = resource_for(hub, cluster, object, &what).await? else {
        return Ok(None);
    };
    let call = Call::get(path_of(&resource, object));
    let reply = hub
        .caller
        .call(&call)
        .await
        .map_err(|fault| error_of(cluster, &what, fault))?;
    match reply.code {
        200 => {}
        404 => return Ok(None),
        _ => return Err(Status::of(&reply).error(&what, Quote::of_kind(&object.kind))),
    }
    let json = json_of(&reply, &what)?;
    let uid = json.pointer("/metadata/uid").and_then(Value::as_str);
    Ok(Some(LiveObject {
        object: object.clone(),
        uid: uid.unwrap_or_default().to_owned(),
        json: Arc::new(json),
    }))
}

/// Delete, if it is still the object of that UID.
pub(crate) async fn delete(
    hub: &Hub,
    cluster: &str,
    object: &ObjectRef,
    uid: &str,
) -> Result<(), ClusterError> {
    let what = format!("deleting {object}");
    let Some(resource) = resource_for(hub, cluster, object, &what).await? else {
        return Ok(());
    };
    let options = json!({
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "preconditions": {"uid": uid},
        // Said, because the default differs: some kinds orphan what they made.
        "propagationPolicy": "Background",
    });
    let call = Call::with_body(
        Method::DELETE,
        path_of(&resource, object),
        "application/json",
        &options,
    );
    let reply = hub
        .caller
        .call(&call)
        .await
        .map_err(|fault| error_of(cluster, &what, fault))?;
    match reply.code {
        200 | 202 => {
            let json: Value = serde_json::from_slice(&reply.body).unwrap_or(Value::Null);
            let subject = Subject::Kind(object.api_version.clone(), object.kind.clone());
            hub.change(|state| {
                if json.get("kind").and_then(Value::as_str) == Some("Status") {
                    state.cache.gone(object, Some(uid));
                } else if state.feeds.contains_key(&subject) && json.is_object() {
                    // A finalizer holds it: it goes when that is done.
                    state.cache.put(&subject, json);
                }
            });
            Ok(())
        }
        404 => Ok(()),
        // The precondition or something else: the texts differ from release to release,
        // so the object itself is asked. Another one of the name: ours is gone.
        409 => match get(hub, cluster, object).await? {
            Some(live) if live.uid == uid => {
                Err(Status::of(&reply).error(&what, Quote::of_kind(&object.kind)))
            }
            _ => Ok(()),
        },
        _ => Err(Status::of(&reply).error(&what, Quote::of_kind(&object.kind))),
    }
}

/// The kind's resource; `None` where the server does not know it.
async fn resource_for(
    hub: &Hub,
    cluster: &str,
    object: &ObjectRef,
    what: &str,
) -> Result<Option<Resource>, ClusterError> {
    match hub
        .resources
        .find(&hub.caller, &object.api_version, &object.kind)
        .await
    {
        Ok(resource) => Ok(Some(resource)),
        Err(NoResource::NotThere(_)) => Ok(None),
        // Only asked so far: nothing happened.
        Err(NoResource::Fault(Fault::Lost(why))) => {
            Err(error_of(cluster, what, Fault::NotSent(why)))
        }
        Err(NoResource::Fault(fault)) => Err(error_of(cluster, what, fault)),
        Err(NoResource::Status(status)) => Err(status.error(what, Quote::Yes)),
    }
}
