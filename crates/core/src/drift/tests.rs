use serde_json::{Value, json};

use super::*;

fn mac(bytes: &[u8]) -> String {
    trueup_model::id::Digest::of_parts([b"key".as_slice(), bytes]).0
}

fn masking(whole: bool) -> Masking<'static> {
    Masking { mac: &mac, whole }
}

fn managed(mut object: Value, fields: Value) -> Value {
    let version = object["apiVersion"].clone();
    object["metadata"]["managedFields"] = json!([
        {"manager": "other", "operation": "Update", "apiVersion": version,
         "fieldsV1": {"f:spec": {"f:paused": {}}}},
        {"manager": "trueup", "operation": "Apply", "apiVersion": version, "fieldsV1": fields},
        {"manager": "trueup", "operation": "Apply", "apiVersion": version, "subresource": "status",
         "fieldsV1": {"f:status": {}}},
    ]);
    object
}

/// A Deployment as the API server answers: defaults filled in that we did not send.
fn deployment() -> Value {
    let object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "uid": "u", "labels": {"a.b/c": "1", "x": "y"},
            "finalizers": ["one", "two"]},
        "spec": {
            "paused": true,
            "replicas": 2,
            "template": {"spec": {
                "securityContext": {},
                "containers": [
                    {"name": "app", "image": "app:1", "args": ["-v", "-q"],
                     "resources": {"requests": {"cpu": "1"}},
                     "ports": [{"containerPort": 80, "protocol": "TCP"}],
                     "imagePullPolicy": "IfNotPresent"},
                    {"name": "log", "image": "log:1"},
                ]}},
        },
    });
    managed(
        object,
        json!({
            "f:metadata": {"f:labels": {"f:a.b/c": {}}, "f:finalizers": {"v:\"one\"": {}}},
            "f:spec": {
                "f:replicas": {},
                "f:template": {"f:spec": {
                    "f:securityContext": {},
                    "f:containers": {
                        "k:{\"name\":\"app\"}": {".": {}, "f:name": {}, "f:image": {}, "f:args": {},
                            "f:resources": {"f:requests": {"f:cpu": {}}},
                            "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":
                                {".": {}, "f:containerPort": {}}}},
                        "k:{\"name\":\"log\"}": {".": {}, "f:name": {}, "f:image": {}},
                    }}},
            },
        }),
    )
}

fn base(answer: &Value) -> Baseline {
    Baseline::from_answer(answer, "trueup", masking(false))
}

fn found(baseline: &Baseline, live: &Value) -> Vec<String> {
    let drift = baseline.drift(live, masking(false));
    drift.iter().map(ToString::to_string).collect()
}

fn edited(edit: impl FnOnce(&mut Value)) -> Value {
    let mut live = deployment();
    edit(&mut live);
    live
}

#[test]
fn what_we_own_is_compared_and_nothing_else() {
    let baseline = base(&deployment());
    let spec = "/spec/template/spec";
    let pod = |live: &mut Value, edit: &dyn Fn(&mut Value)| edit(live.pointer_mut(spec).unwrap());
    let table: Vec<(&str, Value, &[&str])> = vec![
        ("nothing", deployment(), &[]),
        (
            "replicas",
            edited(|live| live["spec"]["replicas"] = json!(5)),
            &["spec.replicas: 5 (applied: 2)"],
        ),
        (
            "the same number",
            edited(|live| live["spec"]["replicas"] = json!(2.0)),
            &[],
        ),
        (
            "a field that is gone",
            edited(|live| {
                live["spec"].as_object_mut().unwrap().remove("replicas");
            }),
            &["spec.replicas: <absent> (applied: 2)"],
        ),
        (
            "a label",
            edited(|live| live["metadata"]["labels"]["a.b/c"] = json!("2")),
            &["metadata.labels[a.b/c]: \"2\" (applied: \"1\")"],
        ),
        (
            "a member of a set",
            edited(|live| live["metadata"]["finalizers"] = json!(["two"])),
            &["metadata.finalizers[one]: <absent> (applied: {})"],
        ),
        (
            "an item's field",
            edited(|live| pod(live, &|pod| pod["containers"][0]["image"] = json!("app:2"))),
            &["spec.template.spec.containers[name=app].image: \"app:2\" (applied: \"app:1\")"],
        ),
        (
            "a list that is one value",
            edited(|live| {
                pod(live, &|pod| {
                    pod["containers"][0]["args"] = json!(["-q", "-v"])
                })
            }),
            &[
                "spec.template.spec.containers[name=app].args: [\"-q\",\"-v\"] (applied: [\"-v\",\"-q\"])",
            ],
        ),
        (
            "a whole item",
            edited(|live| {
                pod(live, &|pod| {
                    pod["containers"].as_array_mut().unwrap().pop();
                });
            }),
            &["spec.template.spec.containers[name=log]: <absent> \
               (applied: {\"image\":\"log:1\",\"name\":\"log\"})"],
        ),
        (
            "fields of others",
            edited(|live| {
                live["spec"]["paused"] = json!(false);
                live["metadata"]["labels"]["x"] = json!("z");
                live["metadata"]["finalizers"] = json!(["two", "three", "one"]);
                pod(live, &|pod| {
                    pod["containers"][0]["imagePullPolicy"] = json!("Always");
                    pod["containers"][1]["env"] = json!([{"name": "A", "value": "1"}]);
                });
            }),
            &[],
        ),
        (
            "an empty map that was filled",
            edited(|live| {
                pod(live, &|pod| {
                    pod["securityContext"] = json!({"runAsUser": 1})
                })
            }),
            &["spec.template.spec.securityContext: {\"runAsUser\":1} (applied: {})"],
        ),
        (
            "an empty map in which another manager owns an item",
            edited(|live| {
                pod(live, &|pod| {
                    pod["securityContext"] = json!({"runAsUser": 1})
                });
                live["metadata"]["managedFields"][0]["fieldsV1"] = json!({"f:spec": {"f:template":
                    {"f:spec": {"f:securityContext": {"f:runAsUser": {}}}}}});
            }),
            &[],
        ),
    ];
    for (what, live, wanted) in table {
        assert_eq!(found(&baseline, &live), wanted, "{what}");
    }
}

/// Numbers without meaning, the same ones each time.
fn shuffle<T>(items: &mut [T], seed: &mut u64) {
    for at in (1..items.len()).rev() {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let other = usize::try_from(*seed >> 33).unwrap() % (at + 1);
        items.swap(at, other);
    }
}

/// Any order of maps' fields, of associative lists and of sets.
fn shuffled(value: &Value, fields: Option<&Value>, seed: &mut u64) -> Value {
    match value {
        Value::Object(map) => {
            let mut pairs: Vec<_> = map.iter().collect();
            shuffle(&mut pairs, seed);
            let pairs = pairs.into_iter().map(|(key, value)| {
                let below = fields.and_then(|fields| fields.get(format!("f:{key}")));
                (key.clone(), shuffled(value, below, seed))
            });
            Value::Object(pairs.collect())
        }
        Value::Array(items) => {
            let keyed = fields.and_then(Value::as_object).is_some_and(|fields| {
                fields
                    .keys()
                    .any(|key| key.starts_with("k:") || key.starts_with("v:"))
            });
            let mut items = items.clone();
            if keyed {
                shuffle(&mut items, seed);
            }
            Value::Array(items)
        }
        scalar => scalar.clone(),
    }
}

#[test]
fn an_answer_has_no_drift_against_itself_in_any_order() {
    let answer = deployment();
    let baseline = base(&answer);
    let fields = answer["metadata"]["managedFields"][1]["fieldsV1"].clone();
    for mut seed in 0..500_u64 {
        let live = shuffled(&answer, Some(&fields), &mut seed);
        assert_eq!(found(&baseline, &live), Vec::<String>::new(), "{live}");
        let rebuilt = base(&live);
        assert!(baseline.same_intent(&rebuilt));
    }
}

#[test]
fn it_is_stored_and_read_again() {
    let baseline = base(&deployment());
    let text = serde_json::to_string(&baseline).unwrap();
    let read: Baseline = serde_json::from_str(&text).unwrap();
    assert_eq!(read, baseline);
    assert!(text.len() < 900, "{} bytes: {text}", text.len());
    assert!(!read.is_empty() && Baseline::default().is_empty());
}

#[test]
fn secrets_are_kept_as_hashes() {
    let secret = managed(
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "type": "Opaque",
            "data": {"password": "Y2FuYXJ5", "same": "Y2FuYXJ5"}}),
        json!({"f:data": {"f:password": {}, "f:same": {}}, "f:type": {}}),
    );
    let baseline = base(&secret);
    let text = serde_json::to_string(&baseline).unwrap();
    assert!(!text.contains("Y2FuYXJ5"), "{text}");
    let hashes: Vec<&str> = text.matches("\"h\":").collect();
    assert_eq!(hashes.len(), 2);
    assert_eq!(found(&baseline, &secret), Vec::<String>::new());

    let mut live = secret.clone();
    live["data"]["password"] = json!("b3RoZXI=");
    live["data"].as_object_mut().unwrap().remove("same");
    live["type"] = json!("other");
    assert_eq!(
        found(&baseline, &live),
        [
            "data.password: <secret> (applied: <secret>)",
            "data.same: <absent> (applied: <secret>)",
            "type: \"other\" (applied: \"Opaque\")",
        ]
    );
    // Equal values in two places do not look equal.
    let a = text.split("\"h\":\"").nth(1).unwrap().split('"').next();
    let b = text.split("\"h\":\"").nth(2).unwrap().split('"').next();
    assert_ne!(a, b);
}

#[test]
fn what_came_from_an_encrypted_source_is_hidden_whole() {
    let object = managed(
        json!({"apiVersion": "x/v1", "kind": "Thing", "metadata": {"name": "s", "labels": {"a": "b"}},
            "spec": {"key": "canary"}}),
        json!({"f:metadata": {"f:labels": {"f:a": {}}}, "f:spec": {"f:key": {}}}),
    );
    let baseline = Baseline::from_answer(&object, "trueup", masking(true));
    let text = serde_json::to_string(&baseline).unwrap();
    assert!(!text.contains("canary") && text.contains("\"b\""), "{text}");
    assert_eq!(baseline.drift(&object, masking(true)), vec![]);
    let mut live = object;
    live["spec"]["key"] = json!("other canary");
    let drift = baseline.drift(&live, masking(true));
    assert_eq!(
        drift[0].to_string(),
        "spec.key: <secret> (applied: <secret>)"
    );
}

#[test]
fn intents_are_compared() {
    let old = base(&deployment());
    let mut answer = deployment();
    answer["spec"]["replicas"] = json!(3);
    assert!(!old.same_intent(&base(&answer)));
    // Not ours, so not our intent.
    let mut answer = deployment();
    answer["spec"]["paused"] = json!(false);
    assert!(old.same_intent(&base(&answer)));

    let mut answer = deployment();
    let fields = answer
        .pointer_mut("/metadata/managedFields/1/fieldsV1/f:spec")
        .unwrap();
    fields.as_object_mut().unwrap().remove("f:replicas");
    let containers = fields
        .pointer_mut("/f:template/f:spec/f:containers")
        .unwrap();
    containers
        .as_object_mut()
        .unwrap()
        .remove("k:{\"name\":\"log\"}");
    assert_eq!(
        old.given_up(&base(&answer)),
        ["spec.replicas", "spec.template.spec.containers[name=log]"]
    );
    assert_eq!(old.given_up(&old), Vec::<String>::new());
}

#[test]
fn an_answer_that_is_not_ours_owns_nothing() {
    for answer in [
        json!({}),
        json!({"metadata": {"managedFields": "x"}}),
        json!(null),
    ] {
        assert!(base(&answer).is_empty());
    }
    let other = Baseline::from_answer(&deployment(), "somebody", masking(false));
    assert!(other.is_empty());
}
