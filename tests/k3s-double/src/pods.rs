//! The pod runner: says of the pods of its own node that they run, and lets deleted ones go.
//!
//! It must never touch pods of another node: when a machine is dead, nobody may update what ran there.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use serde_json::{Value, json};

use crate::kube::{Api, Patch, text};
use crate::log;

/// How long a deleted pod takes to end, at most its own grace period.
const STOPPING: Duration = Duration::from_millis(500);
/// Tries of one status update before the next list repeats it.
const TRIES: u32 = 5;
/// Images of this prefix cannot be pulled.
const MISSING: &str = "missing/";

/// What one pod needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Nothing,
    /// To be said Running and Ready.
    Run,
    /// To be said Succeeded.
    Finish,
    /// To be said unable to pull its image.
    Fail,
    /// To be removed after its grace.
    Remove,
}

fn need(pod: &Value) -> Need {
    if pod.pointer("/metadata/deletionTimestamp").is_some() {
        return Need::Remove;
    }
    let phase = text(pod, "/status/phase");
    if matches!(phase, "Succeeded" | "Failed") {
        return Need::Nothing;
    }
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
    let missing = containers
        .into_iter()
        .flatten()
        .any(|container| text(container, "/image").starts_with(MISSING));
    if missing {
        let waiting =
            text(pod, "/status/containerStatuses/0/state/waiting/reason") == "ImagePullBackOff";
        return if waiting { Need::Nothing } else { Need::Fail };
    }
    if phase == "Running" && text(pod, "/spec/restartPolicy") != "Always" {
        return Need::Finish;
    }
    let ready = pod
        .pointer("/status/conditions")
        .and_then(Value::as_array)
        .is_some_and(|conditions| {
            conditions
                .iter()
                .any(|one| text(one, "/type") == "Ready" && text(one, "/status") == "True")
        });
    if phase == "Running" && ready {
        Need::Nothing
    } else {
        Need::Run
    }
}

/// Runs the pods of one node.
#[derive(Debug)]
pub(crate) struct Runner {
    api: Api,
    node: String,
    node_ip: IpAddr,
    /// Work under way, by pod uid and need, so that repeated events do nothing.
    busy: RefCell<BTreeSet<String>>,
    /// Last octet handed out.
    last: Cell<u8>,
    /// The first three octets of the node's pod range, empty until the controller manager assigned one.
    range: RefCell<String>,
}

impl Runner {
    /// With the node's own identity.
    pub(crate) fn new(api: Api, node: &str, node_ip: IpAddr) -> Rc<Self> {
        Rc::new(Self {
            api,
            node: node.to_owned(),
            node_ip,
            busy: RefCell::default(),
            last: Cell::new(1),
            range: RefCell::default(),
        })
    }

    /// Lists and watches for ever.
    pub(crate) async fn run(self: Rc<Self>) {
        loop {
            if let Err(error) = self.once().await {
                log::warn(format!("pods of {}: {error:#}", self.node));
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }

    async fn once(self: &Rc<Self>) -> Result<()> {
        let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{}", self.node);
        let list = self
            .api
            .get(&path)
            .await?
            .ok_or_else(|| anyhow!("no list of pods"))?;
        for pod in list
            .pointer("/items")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            self.consider(pod.clone());
        }
        let version = text(&list, "/metadata/resourceVersion").to_owned();
        self.api
            .watch(&path, &version, |mut event| {
                if matches!(text(&event, "/type"), "ADDED" | "MODIFIED")
                    && let Some(pod) = event.get_mut("object").map(Value::take)
                {
                    self.consider(pod);
                }
            })
            .await
    }

    fn consider(self: &Rc<Self>, pod: Value) {
        let need = need(&pod);
        let key = format!("{} {need:?}", text(&pod, "/metadata/uid"));
        if need == Need::Nothing || !self.busy.borrow_mut().insert(key.clone()) {
            return;
        }
        let runner = Rc::clone(self);
        tokio::task::spawn_local(async move {
            for _ in 0..TRIES {
                match runner.act(&pod, need).await {
                    Ok(()) => break,
                    // Changed or gone meanwhile: its own event tells.
                    Err(error) if crate::kube::refused_with(&error, http::StatusCode::CONFLICT) => {
                        break;
                    }
                    Err(error)
                        if crate::kube::refused_with(&error, http::StatusCode::NOT_FOUND) =>
                    {
                        break;
                    }
                    Err(error) => {
                        log::warn(format!("pod {}: {error:#}", text(&pod, "/metadata/name")));
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
            }
            runner.busy.borrow_mut().remove(&key);
        });
    }

    async fn act(&self, pod: &Value, need: Need) -> Result<()> {
        let (namespace, name) = (
            text(pod, "/metadata/namespace"),
            text(pod, "/metadata/name"),
        );
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        let uid = text(pod, "/metadata/uid");
        if need == Need::Remove {
            let grace = pod
                .pointer("/metadata/deletionGracePeriodSeconds")
                .and_then(Value::as_u64)
                .unwrap_or(0);
            tokio::time::sleep(STOPPING.min(Duration::from_secs(grace))).await;
            let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0,
                                 "preconditions": {"uid": uid}});
            return self.api.delete(&path, &options).await;
        }
        if self.range.borrow().is_empty() {
            let node = self
                .api
                .get(&format!("/api/v1/nodes/{}", self.node))
                .await?
                .unwrap_or_default();
            let range = text(&node, "/spec/podCIDR")
                .rsplit_once('.')
                .map(|(range, _)| range.to_owned());
            // A kubelet waits for its network too.
            *self.range.borrow_mut() = range.ok_or_else(|| anyhow!("node has no pod CIDR yet"))?;
        }
        let patch = json!({"metadata": {"uid": uid}, "status": self.status(pod, need)});
        self.api
            .patch(&format!("{path}/status"), Patch::Merge, &patch)
            .await
            .map(drop)
    }

    fn address(&self, pod: &Value) -> String {
        if pod.pointer("/spec/hostNetwork").and_then(Value::as_bool) == Some(true) {
            return self.node_ip.to_string();
        }
        let known = text(pod, "/status/podIP");
        if !known.is_empty() {
            return known.to_owned();
        }
        let next = if self.last.get() >= 254 {
            2
        } else {
            self.last.get().saturating_add(1)
        };
        self.last.set(next);
        format!("{}.{next}", self.range.borrow())
    }

    fn status(&self, pod: &Value, need: Need) -> Value {
        let now = jiff::Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string();
        let (phase, ready, reason) = match need {
            Need::Finish => ("Succeeded", "False", "PodCompleted"),
            Need::Fail => ("Pending", "False", "ContainersNotReady"),
            _ => ("Running", "True", ""),
        };
        let state = match need {
            Need::Finish => {
                json!({"terminated": {"exitCode": 0, "reason": "Completed", "finishedAt": now, "startedAt": now}})
            }
            Need::Fail => {
                json!({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}})
            }
            _ => json!({"running": {"startedAt": now}}),
        };
        let uid = text(pod, "/metadata/uid");
        let statuses = |list: &str, state: &Value, ready: bool| -> Vec<Value> {
            let containers = pod.pointer(list).and_then(Value::as_array);
            let status = |container: &Value| {
                let (name, image) = (text(container, "/name"), text(container, "/image"));
                json!({"name": name, "image": image, "imageID": image, "containerID": format!("double://{uid}/{name}"),
                       "ready": ready, "started": ready, "restartCount": 0, "state": state})
            };
            containers.into_iter().flatten().map(status).collect()
        };
        let done = json!({"terminated": {"exitCode": 0, "reason": "Completed", "finishedAt": now, "startedAt": now}});
        let condition = |kind: &str, status: &str, reason: &str| json!({"type": kind, "status": status, "reason": reason, "lastTransitionTime": now});
        let address = self.address(pod);
        json!({
            "phase": phase, "hostIP": self.node_ip.to_string(), "hostIPs": [{"ip": self.node_ip.to_string()}],
            "podIP": address, "podIPs": [{"ip": address}],
            "startTime": pod.pointer("/status/startTime").cloned().unwrap_or_else(|| json!(now)),
            "containerStatuses": statuses("/spec/containers", &state, ready == "True"),
            "initContainerStatuses": statuses("/spec/initContainers", &done, need != Need::Fail),
            "conditions": [
                condition("PodScheduled", "True", ""),
                condition("PodReadyToStartContainers", "True", ""),
                condition("Initialized", "True", ""),
                condition("ContainersReady", ready, reason),
                condition("Ready", ready, reason),
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pod_needs() {
        let pod = |status: Value, restart: &str, image: &str| {
            json!({"metadata": {"uid": "u"}, "status": status,
                   "spec": {"restartPolicy": restart, "containers": [{"name": "c", "image": image}]}})
        };
        let ready =
            json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
        let unready =
            json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]});
        let backoff = json!({"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff"}}}]});
        for (pod, expected) in [
            (pod(json!({"phase": "Pending"}), "Always", "web"), Need::Run),
            (pod(ready.clone(), "Always", "web"), Need::Nothing),
            (pod(unready, "Always", "web"), Need::Run),
            (pod(ready, "Never", "job"), Need::Finish),
            (
                pod(json!({"phase": "Succeeded"}), "Never", "job"),
                Need::Nothing,
            ),
            (
                pod(json!({"phase": "Pending"}), "Always", "missing/web"),
                Need::Fail,
            ),
            (pod(backoff, "Always", "missing/web"), Need::Nothing),
            (
                json!({"metadata": {"deletionTimestamp": "x"}}),
                Need::Remove,
            ),
        ] {
            assert_eq!(need(&pod), expected, "{pod}");
        }
    }
}
