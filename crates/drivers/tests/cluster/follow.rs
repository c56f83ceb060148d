//! The main path: connect, apply, follow, drift.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use trueup_model::facts::cluster::{ClusterFacts, Inventory, InventoryEntry};
use trueup_model::facts::object::{APPLICATION_LABEL, ObjectRef};
use trueup_model::port::{ApplyRefusal, ClusterApi as _, Force};

use crate::stage::{
    Stage, api, app, baseline, config_map, deployment, drift, kind, prepared, reference, within,
};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_scale_is_seen_within_two_seconds() {
    let stage = Stage::start();
    let kinds = [kind("apps/v1", "Deployment")];
    let facts = stage.api.facts(&kinds).await.unwrap();
    assert!(facts.objects.is_empty() && facts.blind.is_empty() && facts.owner.is_none());

    let answer = stage.apply(deployment("web", 2)).await;
    assert!(answer.created);
    let base = baseline(&answer);
    let object = reference("apps/v1", "Deployment", "default", "web");
    // What was written is there at once.
    let facts = stage.api.facts(&kinds).await.unwrap();
    assert_eq!(facts.objects[&object].uid, answer.uid);
    assert_eq!(drift(&base, &facts, &object), vec![]);

    stage
        .plane
        .kubectl(&["scale", "deployment/web", "--replicas=5"])
        .unwrap();
    let (facts, took) = stage
        .facts_until("the scale", &kinds, SOON, |facts| {
            !drift(&base, facts, &object).is_empty()
        })
        .await;
    let found: Vec<String> = drift(&base, &facts, &object)
        .iter()
        .map(ToString::to_string)
        .collect();
    println!("scale seen {took:?} after kubectl had ended: {found:?}");
    assert_eq!(found, ["spec.replicas: 5 (applied: 2)"]);
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(stage.shell.dials.load(Ordering::Relaxed) > 0);
    assert_eq!(stage.shell.reads.load(Ordering::Relaxed), 1);
}

/// The live object's label `trueup.dev/application`, where it is there at all.
fn label<'a>(facts: &'a ClusterFacts, object: &ObjectRef) -> Option<Option<&'a str>> {
    let live = facts.objects.get(object)?;
    let labels = live.json.pointer("/metadata/labels");
    Some(labels.and_then(|labels| labels.get(APPLICATION_LABEL)?.as_str()))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_lost_its_label_is_not_called_deleted() {
    let stage = Stage::start();
    let kinds = [kind("v1", "ConfigMap")];
    let base = baseline(&stage.apply(config_map("a", "1")).await);
    let object = reference("v1", "ConfigMap", "default", "a");
    stage.api.facts(&kinds).await.unwrap();
    let strip = format!("{APPLICATION_LABEL}-");
    stage
        .plane
        .kubectl(&["label", "configmap/a", &strip])
        .unwrap();
    let (facts, _) = stage
        .facts_until("the label is gone", &kinds, SOON, |facts| {
            assert!(facts.objects.contains_key(&object) || !facts.blind.is_empty());
            label(facts, &object) == Some(None)
        })
        .await;
    let found = drift(&base, &facts, &object);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].path, "metadata.labels[trueup.dev/application]");

    // It is still followed, though no selector shows it.
    let patch = r#"{"data":{"key":"2"}}"#;
    stage
        .plane
        .kubectl(&["patch", "configmap/a", "-p", patch])
        .unwrap();
    stage
        .facts_until("a change of the lone object", &kinds, SOON, |facts| {
            drift(&base, facts, &object).len() == 2
        })
        .await;

    // Whoever starts anew finds it by the inventory.
    let uid = facts.objects[&object].uid.clone();
    let inventory = Inventory {
        entries: vec![InventoryEntry {
            object: object.clone(),
            uid: Some(uid),
            adopted: false,
        }],
        ..Inventory::default()
    };
    stage.api.write_inventory(&app(), &inventory).await.unwrap();
    let again = api(vec![("s1", Arc::clone(&stage.shell))]);
    let facts = again.facts(&[]).await.unwrap();
    assert_eq!(label(&facts, &object), Some(None), "{:?}", facts.blind);

    // Corrected: back under the selector; then really deleted.
    let prepared = prepared(&config_map("a", "1"));
    stage.api.apply(&prepared, Force::Yes, false).await.unwrap();
    stage
        .facts_until("no drift", &kinds, SOON, |facts| {
            drift(&base, facts, &object).is_empty()
        })
        .await;
    stage.plane.kubectl(&["delete", "configmap/a"]).unwrap();
    stage
        .facts_until("it is deleted", &kinds, SOON, |facts| {
            !facts.objects.contains_key(&object) && facts.blind.is_empty()
        })
        .await;
    within("the other one sees it too", SOON, async {
        while again
            .facts(&[])
            .await
            .unwrap()
            .objects
            .contains_key(&object)
        {
            again.changed().await;
        }
    })
    .await;
}

const WIDGETS: &str = r#"{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
  "metadata": {"name": "widgets.example.invalid"},
  "spec": {"group": "example.invalid", "scope": "Cluster",
    "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
    "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
      {"type": "object", "properties": {"spec": {"type": "object",
        "properties": {"size": {"type": "integer", "default": 3}}}}}}}]}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_comes_with_its_definition() {
    let stage = Stage::start();
    let kinds = [kind("example.invalid/v1", "Widget")];
    let facts = stage.api.facts(&kinds).await.unwrap();
    assert!(
        facts.blind.is_empty() && facts.cluster_scoped.is_empty(),
        "{facts:?}"
    );
    let mut widget = prepared(
        &json!({"apiVersion": "example.invalid/v1", "kind": "Widget",
        "metadata": {"name": "w"}, "spec": {}}),
    );
    widget["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("namespace");
    let refusal = stage.api.apply(&widget, Force::No, true).await.unwrap_err();
    assert!(matches!(refusal, ApplyRefusal::NotYet(_)), "{refusal}");

    stage.apply(serde_json::from_str(WIDGETS).unwrap()).await;
    let answer = within("the kind is served", SOON, async {
        loop {
            match stage.api.apply(&widget, Force::No, false).await {
                Ok(answer) => return answer,
                Err(ApplyRefusal::NotYet(_)) => tokio::task::yield_now().await,
                Err(other) => panic!("{other}"),
            }
        }
    })
    .await;
    let object = reference("example.invalid/v1", "Widget", "", "w");
    let (facts, took) = stage
        .facts_until("the widget is followed", &kinds, SOON, |facts| {
            facts.objects.contains_key(&object)
        })
        .await;
    println!("a new kind is followed {took:?} after its first object");
    assert_eq!(facts.cluster_scoped.len(), 1);
    assert_eq!(drift(&baseline(&answer), &facts, &object), vec![]);

    stage
        .plane
        .kubectl(&["delete", "crd", "widgets.example.invalid"])
        .unwrap();
    stage
        .facts_until("kind and object are gone", &kinds, SOON * 3, |facts| {
            facts.objects.is_empty() && facts.blind.is_empty()
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_is_of_one_uid() {
    let stage = Stage::start();
    let kinds = [kind("v1", "ConfigMap")];
    let object = reference("v1", "ConfigMap", "default", "a");
    stage.api.facts(&kinds).await.unwrap();
    let first = stage.apply(config_map("a", "1")).await;
    stage.api.delete(&object, "another-uid").await.unwrap();
    let live = stage.api.get(&object).await.unwrap();
    assert_eq!(
        live.unwrap().uid,
        first.uid,
        "the object of another UID stays"
    );
    stage.api.delete(&object, &first.uid).await.unwrap();
    assert!(stage.api.get(&object).await.unwrap().is_none());
    assert!(
        !stage
            .api
            .facts(&kinds)
            .await
            .unwrap()
            .objects
            .contains_key(&object)
    );
    stage.api.delete(&object, &first.uid).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_come_back_after_the_server() {
    let stage = Stage::start();
    let kinds = [kind("v1", "ConfigMap")];
    stage.apply(config_map("a", "1")).await;
    stage.api.facts(&kinds).await.unwrap();
    let server = stage.plane.program("kube-apiserver");
    server.kill().unwrap();
    let refusal = stage
        .api
        .apply(&prepared(&config_map("b", "1")), Force::No, false)
        .await
        .unwrap_err();
    // Unknown, if it went out on a connection whose end was not seen yet.
    let away = matches!(refusal, ApplyRefusal::Later(_) | ApplyRefusal::Unknown(_));
    assert!(away, "{refusal}");
    server.start().unwrap();
    stage.plane.wait_ready().unwrap();
    stage
        .plane
        .kubectl(&["label", "configmap/a", "seen=again"])
        .unwrap();
    let object = reference("v1", "ConfigMap", "default", "a");
    let (_, took) = stage
        .facts_until("a change after the restart", &kinds, SOON * 3, |facts| {
            facts.objects[&object].json["metadata"]["labels"]["seen"] == "again"
        })
        .await;
    println!("watches were back {took:?} after the server was ready");
}
