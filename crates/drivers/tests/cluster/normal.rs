//! What the API server makes of an object: no false drift, and nothing missed.

use std::time::Duration;

use serde_json::{Value, json};
use trueup_bed::control::ControlSpec;
use trueup_model::facts::object::ObjectRef;
use trueup_model::port::{ApplyRefusal, ClusterApi as _, Force};

use crate::stage::{
    Stage, api, baseline, config_map, deployment, drift, kind, kubeconfig, prepared, reference,
    within,
};

const SOON: Duration = Duration::from_secs(20);

/// Apply, see no drift; make a foreign change, see it and nothing else.
async fn check(
    stage: &Stage,
    manifest: Value,
    kinds: &[(String, String)],
    object: &ObjectRef,
    change: &[&str],
    wanted: &[&str],
) {
    let base = baseline(&stage.apply(manifest).await);
    let facts = stage.api.facts(kinds).await.unwrap();
    assert_eq!(drift(&base, &facts, object), vec![], "{object}");
    stage.plane.kubectl(change).unwrap();
    let (facts, _) = stage
        .facts_until("the change", kinds, SOON, |facts| {
            !drift(&base, facts, object).is_empty()
        })
        .await;
    let found: Vec<String> = drift(&base, &facts, object)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(found, wanted, "{object}");
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_the_server_writes_otherwise() {
    let stage = Stage::start();
    let kinds = [kind("apps/v1", "Deployment"), kind("v1", "Secret")];
    // `1000m` and `1024Mi` were sent; the server answers `1` and `1Gi`.
    check(
        &stage,
        deployment("web", 1),
        &kinds,
        &reference("apps/v1", "Deployment", "default", "web"),
        &["set", "resources", "deployment/web", "--requests=cpu=2"],
        &["spec.template.spec.containers[name=app].resources.requests.cpu: \"2\" (applied: \"1\")"],
    )
    .await;
    // The same quantity in other words is no drift.
    let object = reference("apps/v1", "Deployment", "default", "other");
    let base = baseline(&stage.apply(deployment("other", 1)).await);
    for cpu in ["1", "1000m", "1.0"] {
        let cpu = format!("--requests=cpu={cpu},memory=1048576Ki");
        let set = ["set", "resources", "deployment/other", &cpu];
        stage.plane.kubectl(&set).unwrap();
    }
    stage
        .plane
        .kubectl(&["annotate", "deployment/other", "seen=1"])
        .unwrap();
    let (facts, _) = stage
        .facts_until("the last of them", &kinds, SOON, |facts| {
            facts.objects[&object].json["metadata"]["annotations"]["seen"] == "1"
        })
        .await;
    assert_eq!(drift(&base, &facts, &object), vec![]);

    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"},
        "stringData": {"password": "canary-plain"}});
    let patch = r#"{"stringData":{"password":"other"}}"#;
    check(
        &stage,
        secret,
        &kinds,
        &reference("v1", "Secret", "default", "s"),
        &["patch", "secret/s", "-p", patch],
        &["data.password: <secret> (applied: <secret>)"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_maps_of_both_sorts() {
    let stage = Stage::start();
    let kinds = [
        kind("networking.k8s.io/v1", "NetworkPolicy"),
        kind("apps/v1", "Deployment"),
    ];
    // A selector is one value: an empty one that is filled selects something else.
    let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "all"}, "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}});
    let patch = r#"{"spec":{"podSelector":{"matchLabels":{"a":"b"}}}}"#;
    check(
        &stage,
        policy,
        &kinds,
        &reference("networking.k8s.io/v1", "NetworkPolicy", "default", "all"),
        &["patch", "networkpolicy/all", "-p", patch],
        &["spec.podSelector: {\"matchLabels\":{\"a\":\"b\"}} (applied: {})"],
    )
    .await;
    // A security context is a map of fields: those that others set are theirs.
    let mut web = deployment("web", 1);
    web["spec"]["template"]["spec"]["securityContext"] = json!({});
    let base = baseline(&stage.apply(web).await);
    let object = reference("apps/v1", "Deployment", "default", "web");
    let patch = r#"{"spec":{"template":{"spec":{"securityContext":{"runAsUser":7}}}}}"#;
    stage
        .plane
        .kubectl(&["patch", "deployment/web", "-p", patch])
        .unwrap();
    let (facts, _) = stage
        .facts_until("their field", &kinds, SOON, |facts| {
            let live = &facts.objects[&object].json;
            live["spec"]["template"]["spec"]["securityContext"]["runAsUser"] == 7
        })
        .await;
    assert_eq!(drift(&base, &facts, &object), vec![]);
}

const MUTATING: &str = r#"
apiVersion: admissionregistration.k8s.io/VERSION
kind: MutatingAdmissionPolicy
metadata: {name: rewrite}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: ["v1"], operations: ["CREATE", "UPDATE"], resources: ["configmaps"]}
  matchConditions: [{name: ours, expression: "object.metadata.name.startsWith('rewritten')"}]
  failurePolicy: Fail
  reinvocationPolicy: Never
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration:
      expression: 'Object{data: {"key": "rewritten", "injected": "1"}}'
---
apiVersion: admissionregistration.k8s.io/VERSION
kind: MutatingAdmissionPolicyBinding
metadata: {name: rewrite}
spec: {policyName: rewrite}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn values_that_admission_rewrites() {
    let stage = Stage::with(ControlSpec {
        apiserver_args: vec![
            "--runtime-config=admissionregistration.k8s.io/v1beta1=true".to_owned(),
            "--feature-gates=MutatingAdmissionPolicy=true".to_owned(),
        ],
        ..ControlSpec::default()
    });
    let served = stage
        .plane
        .kubectl(&["api-resources", "--api-group=admissionregistration.k8s.io"])
        .unwrap();
    let policies = served
        .lines()
        .find(|line| line.starts_with("mutatingadmissionpolicies"))
        .expect("this API server serves MutatingAdmissionPolicy");
    let version = if policies.contains("/v1beta1") {
        "v1beta1"
    } else {
        "v1"
    };
    println!("MutatingAdmissionPolicy is served as {version}");
    let policy = MUTATING.replace("VERSION", version);
    stage
        .plane
        .kubectl_input(&["apply", "-f", "-"], &policy)
        .unwrap();
    let kinds = [kind("v1", "ConfigMap")];
    let object = reference("v1", "ConfigMap", "default", "rewritten-0");
    // A policy takes a moment to be in force.
    let answer = within("the policy rewrites", SOON, async {
        let mut count = 0;
        loop {
            let answer = stage
                .apply(config_map(&format!("rewritten-{count}"), "ours"))
                .await;
            if answer.json["data"]["key"] == "rewritten" {
                return answer;
            }
            count += 1;
        }
    })
    .await;
    let name = answer.json["metadata"]["name"].as_str().unwrap().to_owned();
    let object = ObjectRef {
        name: name.clone(),
        ..object
    };
    let base = baseline(&answer);
    let facts = stage.api.facts(&kinds).await.unwrap();
    assert_eq!(drift(&base, &facts, &object), vec![]);
    // Applied again it is rewritten again: the same intent.
    let again = prepared(&config_map(&name, "ours"));
    let answer = stage.api.apply(&again, Force::No, true).await.unwrap();
    assert!(base.same_intent(&baseline(&answer)));

    let unbind = ["delete", "mutatingadmissionpolicybinding", "rewrite"];
    stage.plane.kubectl(&unbind).unwrap();
    let patch = r#"{"data":{"key":"foreign"}}"#;
    let target = format!("configmap/{name}");
    let (facts, _) = within("the rewriting ends", SOON * 2, async {
        loop {
            stage
                .plane
                .kubectl(&["patch", &target, "-p", patch])
                .unwrap();
            let live = stage
                .plane
                .kubectl(&["get", &target, "-o", "jsonpath={.data.key}"]);
            if live.unwrap() == "foreign" {
                break;
            }
        }
        stage
            .facts_until("the foreign change", &kinds, SOON, |facts| {
                !drift(&base, facts, &object).is_empty()
            })
            .await
    })
    .await;
    let found = drift(&base, &facts, &object);
    assert_eq!(
        found[0].to_string(),
        "data.key: \"foreign\" (applied: \"rewritten\")"
    );
    assert_eq!(found.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_refuses() {
    let stage = Stage::start();
    let apply = async |object: &Value, force: Force, dry_run: bool| {
        stage.api.apply(object, force, dry_run).await
    };
    // A field of somebody else.
    stage.apply(deployment("web", 2)).await;
    let web = prepared(&deployment("web", 3));
    stage
        .plane
        .kubectl(&["scale", "deployment/web", "--replicas=5"])
        .unwrap();
    for dry_run in [true, false] {
        let refusal = apply(&web, Force::No, dry_run).await.unwrap_err();
        let wanted = ("kubectl".to_owned(), "spec.replicas".to_owned());
        assert_eq!(refusal, ApplyRefusal::Conflict(vec![wanted]));
    }
    let answer = apply(&web, Force::Yes, false).await.unwrap();
    assert_eq!(
        (answer.created, &answer.json["spec"]["replicas"]),
        (false, &json!(3))
    );

    // A field that never changes, a field that does not exist, a wrong kind of value.
    let mut other = web.clone();
    other["spec"]["selector"]["matchLabels"]["app"] = json!("x");
    other["spec"]["template"]["metadata"]["labels"]["app"] = json!("x");
    let mut unknown = web.clone();
    unknown["spec"]["replicaz"] = json!(1);
    let mut wrong = web.clone();
    wrong["spec"]["replicas"] = json!("three");
    for (object, wanted) in [
        (other, "immutable"),
        (unknown, "replicaz"),
        (wrong, "replicas"),
    ] {
        let refusal = apply(&object, Force::Yes, true).await.unwrap_err();
        let ApplyRefusal::Invalid(why) = &refusal else {
            panic!("{refusal:?}");
        };
        assert!(why.contains(wanted), "{why}");
    }

    // Neither namespace nor kind.
    let mut nowhere = prepared(&config_map("a", "1"));
    nowhere["metadata"]["namespace"] = json!("nowhere");
    for dry_run in [true, false] {
        let refusal = apply(&nowhere, Force::No, dry_run).await.unwrap_err();
        assert!(matches!(refusal, ApplyRefusal::NotYet(_)), "{refusal:?}");
    }
    nowhere["apiVersion"] = json!("example.invalid/v1");
    let refusal = apply(&nowhere, Force::No, true).await.unwrap_err();
    assert!(matches!(refusal, ApplyRefusal::NotYet(_)), "{refusal:?}");

    // A dry run of a create changes nothing.
    let answer = apply(&prepared(&config_map("dry", "1")), Force::No, true)
        .await
        .unwrap();
    assert!(answer.created);
    let object = reference("v1", "ConfigMap", "default", "dry");
    assert!(stage.api.get(&object).await.unwrap().is_none());

    // Nothing of a Secret comes back in a refusal.
    let secret = prepared(
        &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"},
        "data": {"password": "canary not base64"}, "canary-field": 1}),
    );
    let refusal = apply(&secret, Force::No, true).await.unwrap_err();
    assert!(matches!(refusal, ApplyRefusal::Invalid(_)), "{refusal:?}");
    assert!(!refusal.to_string().contains("canary"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_may_only_read() {
    let stage = Stage::start();
    stage.apply(config_map("a", "1")).await;
    stage
        .shell
        .write(crate::shell::KUBECONFIG, kubeconfig(&stage.plane, "reader"));
    let reader = api(vec![("s1", std::sync::Arc::clone(&stage.shell))]);
    let facts = reader.facts(&[kind("v1", "ConfigMap")]).await.unwrap();
    assert_eq!(facts.objects.len(), 1);
    let refusal = reader
        .apply(&prepared(&config_map("a", "1")), Force::No, true)
        .await
        .unwrap_err();
    assert!(matches!(refusal, ApplyRefusal::Forbidden(_)), "{refusal:?}");
}
