//! The node part: registers the Node, keeps its Lease and its conditions, as a kubelet does.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value, json};

use crate::certs::Identity;
use crate::kube::{Api, Patch, set, text};
use crate::settings::Settings;
use crate::{layout, log, node_config};

/// A kubelet renews every 10 s with a grace of 40 s; here the grace is 8 s.
const RENEW: Duration = Duration::from_secs(2);
/// Renewals between two looks at the Node's own conditions.
const CHECK_EVERY: u32 = 2;

/// What a Node is registered with.
#[derive(Clone, Debug)]
pub(crate) struct Registration {
    name: String,
    addresses: Vec<(&'static str, String)>,
    labels: Map<String, Value>,
    taints: Vec<Value>,
    annotations: Value,
    version: String,
}

/// The message with which a kubelet ends over labels of Kubernetes' own domains, or none.
pub(crate) fn forbidden_labels(settings: &Settings) -> Option<String> {
    let unknown: Vec<String> = settings
        .list("node-label")
        .iter()
        .map(|label| label.split('=').next().unwrap_or_default().to_owned())
        .filter(|key| !is_allowed(key))
        .collect();
    (!unknown.is_empty()).then(|| {
        format!("kubelet exited: failed to validate kubelet flags: unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: {unknown:?}")
    })
}

fn is_allowed(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else {
        return true;
    };
    let of = |suffix: &str| domain == suffix || domain.ends_with(&format!(".{suffix}"));
    if !of("kubernetes.io") && !of("k8s.io") {
        return true;
    }
    let prefixes = ["kubelet.kubernetes.io", "node.kubernetes.io"];
    let known = [
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
    ];
    prefixes.iter().any(|prefix| of(prefix)) || known.contains(&key)
}

fn taint(text: &str) -> Result<Value> {
    let (rest, effect) = text
        .rsplit_once(':')
        .with_context(|| format!("invalid taint {text:?}"))?;
    let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
    if !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
        bail!("invalid taint effect {effect:?}");
    }
    Ok(json!({"key": key, "value": value, "effect": effect}))
}

impl Registration {
    /// From this start's configuration.
    pub(crate) fn new(settings: &Settings, identity: &Identity) -> Result<Self> {
        let mut labels = Map::new();
        for (key, value) in [
            ("kubernetes.io/hostname", identity.node_name.as_str()),
            ("kubernetes.io/os", "linux"),
            ("kubernetes.io/arch", "amd64"),
            ("beta.kubernetes.io/os", "linux"),
            ("beta.kubernetes.io/arch", "amd64"),
            ("node.kubernetes.io/instance-type", "k3s"),
            ("beta.kubernetes.io/instance-type", "k3s"),
        ] {
            labels.insert(key.to_owned(), json!(value));
        }
        for label in settings.list("node-label") {
            let (key, value) = label.split_once('=').unwrap_or((&label, ""));
            labels.insert(key.to_owned(), json!(value));
        }
        let mut addresses = vec![("InternalIP", identity.node_ip.to_string())];
        for address in settings.split_list("node-external-ip") {
            if address.parse::<IpAddr>().is_ok() {
                addresses.push(("ExternalIP", address));
            }
        }
        addresses.push(("Hostname", identity.node_name.clone()));
        Ok(Self {
            name: identity.node_name.clone(),
            addresses,
            labels,
            taints: settings
                .list("node-taint")
                .iter()
                .map(|text| taint(text))
                .collect::<Result<_>>()?,
            annotations: node_config::annotations(settings),
            version: crate::release::running(),
        })
    }

    fn path(&self) -> String {
        format!("/api/v1/nodes/{}", self.name)
    }

    /// Creates the Node, or applies labels and annotations to the one that is there. Taints only when it is new.
    pub(crate) async fn register(&self, api: &Api) -> Result<()> {
        let mut annotations = self.annotations.clone();
        let ips: Vec<&str> = self
            .addresses
            .iter()
            .filter(|(kind, _)| *kind == "InternalIP")
            .map(|(_, value)| value.as_str())
            .collect();
        set(&mut annotations, "k3s.io/hostname", self.name.as_str());
        set(&mut annotations, "k3s.io/internal-ip", ips.join(","));
        set(&mut annotations, "node.alpha.kubernetes.io/ttl", "0");
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": self.name, "labels": self.labels, "annotations": annotations},
            "spec": {"taints": self.taints},
        });
        if api.create("/api/v1/nodes", &node).await? {
            log::info(format!("Registered node {}", self.name));
        } else {
            let patch = json!({"metadata": {"labels": self.labels, "annotations": annotations}});
            api.patch(&self.path(), Patch::Merge, &patch).await?;
            log::info(format!(
                "Labels and annotations have been set successfully on node: {}",
                self.name
            ));
        }
        self.report(api).await
    }

    /// Writes the whole status.
    async fn report(&self, api: &Api) -> Result<()> {
        let now = jiff::Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string();
        let condition = |kind: &str, status: &str, reason: &str, message: &str| {
            json!({"type": kind, "status": status, "reason": reason, "message": message,
                   "lastHeartbeatTime": now, "lastTransitionTime": now})
        };
        let addresses: Vec<Value> = self
            .addresses
            .iter()
            .map(|(kind, address)| json!({"type": kind, "address": address}))
            .collect();
        let resources =
            json!({"cpu": "4", "memory": "8Gi", "pods": "110", "ephemeral-storage": "50Gi"});
        let read = |path: &str| {
            layout::read_if_there(path.as_ref())
                .ok()
                .flatten()
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        let status = json!({
            "capacity": resources, "allocatable": resources, "addresses": addresses,
            "conditions": [
                condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
                condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
                condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
                condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
            ],
            "nodeInfo": {
                "kubeletVersion": self.version, "kubeProxyVersion": self.version, "architecture": "amd64",
                "operatingSystem": "linux", "osImage": "k3s double", "containerRuntimeVersion": "double://0",
                "kernelVersion": read("/proc/sys/kernel/osrelease"), "bootID": read("/proc/sys/kernel/random/boot_id"),
                "machineID": read("/etc/machine-id"), "systemUUID": read("/etc/machine-id"),
            },
        });
        api.patch(
            &format!("{}/status", self.path()),
            Patch::Strategic,
            &json!({"status": status}),
        )
        .await?;
        Ok(())
    }

    async fn renew(&self, api: &Api) -> Result<()> {
        let collection = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
        let now = jiff::Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
            .to_string();
        let spec =
            json!({"holderIdentity": self.name, "leaseDurationSeconds": 40, "renewTime": now});
        let patch = json!({"spec": spec});
        let renewed = api
            .patch(&format!("{collection}/{}", self.name), Patch::Merge, &patch)
            .await;
        match renewed {
            Err(error) if crate::kube::refused_with(&error, http::StatusCode::NOT_FOUND) => {
                let uid = api
                    .get(&self.path())
                    .await?
                    .map(|node| text(&node, "/metadata/uid").to_owned());
                let owners: Vec<Value> = uid
                    .iter()
                    .map(|uid| json!({"apiVersion": "v1", "kind": "Node", "name": self.name, "uid": uid}))
                    .collect();
                let lease = json!({
                    "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": spec,
                    "metadata": {"name": self.name, "namespace": "kube-node-lease", "ownerReferences": owners},
                });
                api.create(collection, &lease).await.map(drop)
            }
            other => other.map(drop),
        }
    }

    /// Sets the status again when the controller manager took the node for dead meanwhile.
    async fn check(&self, api: &Api) -> Result<()> {
        let Some(node) = api.get(&self.path()).await? else {
            // A kubelet does not register again before it is restarted.
            bail!("node {:?} not found", self.name);
        };
        let ready = node
            .pointer("/status/conditions")
            .and_then(Value::as_array)
            .is_some_and(|conditions| {
                conditions
                    .iter()
                    .any(|one| text(one, "/type") == "Ready" && text(one, "/status") == "True")
            });
        if ready {
            Ok(())
        } else {
            self.report(api).await
        }
    }

    /// Renews the Lease for ever.
    pub(crate) async fn keep(&self, api: &Api) {
        let mut ticks = tokio::time::interval(RENEW);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut count = 0_u32;
        loop {
            ticks.tick().await;
            let mut result = self.renew(api).await.context("update lease");
            if count.is_multiple_of(CHECK_EVERY) && result.is_ok() {
                result = self.check(api).await.context("update node status");
            }
            if let Err(error) = result {
                log::error(format!("{error:#}"));
            }
            count = count.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_labels_a_kubelet_takes() {
        for (key, allowed) in [
            ("team", true),
            ("example.com/team", true),
            ("node.kubernetes.io/pool", true),
            ("x.node.kubernetes.io/pool", true),
            ("topology.kubernetes.io/zone", true),
            ("node-role.kubernetes.io/worker", false),
            ("kubernetes.io/role", false),
            ("k8s.io/x", false),
        ] {
            assert_eq!(is_allowed(key), allowed, "{key}");
        }
    }

    #[test]
    fn taints_have_an_effect() {
        assert_eq!(
            taint("a=b:NoSchedule").unwrap(),
            json!({"key": "a", "value": "b", "effect": "NoSchedule"})
        );
        assert_eq!(taint("a:NoExecute").unwrap()["value"], "");
        for text in ["a=b", "a=b:Sometimes"] {
            assert!(taint(text).is_err(), "{text}");
        }
    }
}
