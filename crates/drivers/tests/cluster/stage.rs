//! What every test stands on: a control plane, the driver on it, and condition waits.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use trueup_bed::control::{ControlPlane, ControlSpec};
use trueup_core::drift::{Baseline, FieldDrift, Masking, Preparation, prepare};
use trueup_drivers::kube::{KubeApi, KubeSettings};
use trueup_model::facts::cluster::ClusterFacts;
use trueup_model::facts::object::{Answer, FIELD_MANAGER, ObjectRef};
use trueup_model::id::{AppName, NodeName};
use trueup_model::port::{ClusterApi, Force, NodeShell};

use crate::shell::LoopbackShell;

/// A kind by apiVersion and kind.
pub fn kind(api_version: &str, kind: &str) -> (String, String) {
    (api_version.to_owned(), kind.to_owned())
}

pub fn app() -> AppName {
    "web".parse().unwrap()
}

pub fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

/// A control plane and the driver on it, as user `trueup`.
pub struct Stage {
    pub plane: ControlPlane,
    pub shell: Arc<LoopbackShell>,
    pub api: Arc<KubeApi>,
}

impl Stage {
    pub fn start() -> Self {
        Self::with(ControlSpec::default())
    }

    pub fn with(spec: ControlSpec) -> Self {
        let plane = ControlPlane::start(spec).unwrap();
        let shell = Arc::new(LoopbackShell::new(kubeconfig(&plane, "trueup")));
        let api = Arc::new(api(vec![("s1", Arc::clone(&shell))]));
        Self { plane, shell, api }
    }

    /// Apply a manifest as an Application's.
    pub async fn apply(&self, manifest: Value) -> Answer {
        let object = prepared(&manifest);
        self.api.apply(&object, Force::No, false).await.unwrap()
    }

    /// Facts, again and again as the driver wakes, until they are as wanted.
    pub async fn facts_until(
        &self,
        what: &str,
        kinds: &[(String, String)],
        limit: Duration,
        wanted: impl Fn(&ClusterFacts) -> bool,
    ) -> (ClusterFacts, Duration) {
        let begun = Instant::now();
        within(what, limit, async {
            loop {
                let facts = self.api.facts(kinds).await.unwrap();
                if wanted(&facts) {
                    return (facts, begun.elapsed());
                }
                self.api.changed().await;
            }
        })
        .await
    }
}

pub fn kubeconfig(plane: &ControlPlane, user: &str) -> Vec<u8> {
    std::fs::read(plane.kubeconfig_path(user)).unwrap()
}

pub fn api(shells: Vec<(&str, Arc<LoopbackShell>)>) -> KubeApi {
    let servers = shells
        .into_iter()
        .map(|(name, shell)| (node(name), shell as Arc<dyn NodeShell>))
        .collect();
    KubeApi::new(KubeSettings {
        cluster: "test".parse().unwrap(),
        servers,
        kubeconfig: None,
        endpoint: None,
    })
    .unwrap()
}

/// Fails with the name of what was waited for.
pub async fn within<T>(what: &str, limit: Duration, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(limit, future)
        .await
        .unwrap_or_else(|_| panic!("not within {limit:?}: {what}"))
}

pub fn prepared(manifest: &Value) -> Value {
    let app = app();
    let how = Preparation {
        app: &app,
        namespace: "default",
        mark: Some("mark-1"),
        cluster_scoped: &|_, _| None,
    };
    prepare(manifest, how).unwrap()
}

fn mac(bytes: &[u8]) -> String {
    trueup_model::id::Digest::of(bytes).0
}

pub fn baseline(answer: &Answer) -> Baseline {
    Baseline::from_answer(&answer.json, FIELD_MANAGER, masking())
}

pub fn masking() -> Masking<'static> {
    Masking {
        mac: &mac,
        whole: false,
    }
}

pub fn drift(baseline: &Baseline, facts: &ClusterFacts, object: &ObjectRef) -> Vec<FieldDrift> {
    baseline.drift(&facts.objects[object].json, masking())
}

pub fn reference(api_version: &str, kind: &str, namespace: &str, name: &str) -> ObjectRef {
    ObjectRef {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

pub fn deployment(name: &str, replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{
                    "name": "app", "image": "example.invalid/app:1",
                    "ports": [{"containerPort": 80}],
                    "resources": {"requests": {"cpu": "1000m", "memory": "1024Mi"}},
                }]},
            },
        },
    })
}

pub fn config_map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
        "data": {"key": value}})
}
