//! Fields that the API server fills in (`pkg/apis/*/v1/defaults.go` of Kubernetes),
//! for the kinds that people write most.

use serde_json::{Map, Value, json};

use super::text;

/// Fill in what is missing.
pub(crate) fn fill(object: &mut Value) {
    let kind = text(object, "/kind").to_owned();
    let name = text(object, "/metadata/name").to_owned();
    match kind.as_str() {
        "Namespace" => {
            over(
                object,
                &["metadata", "labels"],
                json!({"kubernetes.io/metadata.name": name}),
            );
            over(object, &["spec"], json!({"finalizers": ["kubernetes"]}));
            over(object, &["status"], json!({"phase": "Active"}));
        }
        "Secret" => over(object, &[], json!({"type": "Opaque"})),
        "Deployment" => {
            over(
                object,
                &["spec"],
                json!({
                    "replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
                    "strategy": {"type": "RollingUpdate",
                        "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},
                }),
            );
            template(object, &["spec", "template", "spec"]);
        }
        "StatefulSet" => {
            over(
                object,
                &["spec"],
                json!({
                    "replicas": 1, "revisionHistoryLimit": 10, "podManagementPolicy": "OrderedReady",
                    "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
                }),
            );
            template(object, &["spec", "template", "spec"]);
        }
        "DaemonSet" => {
            over(
                object,
                &["spec"],
                json!({
                    "revisionHistoryLimit": 10,
                    "updateStrategy": {"type": "RollingUpdate",
                        "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
                }),
            );
            template(object, &["spec", "template", "spec"]);
        }
        "Job" => {
            over(
                object,
                &["spec"],
                json!({
                    "completions": 1, "parallelism": 1, "backoffLimit": 6, "suspend": false,
                }),
            );
            template(object, &["spec", "template", "spec"]);
        }
        "Pod" => template(object, &["spec"]),
        "Service" => service(object),
        _ => {}
    }
}

/// Lay fields under those that are there, below a path that is made where needed.
fn over(object: &mut Value, path: &[&str], defaults: Value) {
    let mut place = object;
    for step in path {
        let Some(map) = place.as_object_mut() else {
            return;
        };
        place = map.entry((*step).to_owned()).or_insert_with(|| json!({}));
    }
    under(place, defaults);
}

fn under(place: &mut Value, defaults: Value) {
    let (Some(map), Value::Object(defaults)) = (place.as_object_mut(), defaults) else {
        return;
    };
    for (key, value) in defaults {
        match map.get_mut(&key) {
            Some(known) if known.is_object() && value.is_object() => {
                // Another strategy has no parameters of this one.
                let other = known
                    .get("type")
                    .is_some_and(|kind| Some(kind) != value.get("type"));
                if !other {
                    under(known, value);
                }
            }
            Some(_) => {}
            None => drop(map.insert(key, value)),
        }
    }
}

fn template(object: &mut Value, path: &[&str]) {
    over(
        object,
        path,
        json!({
            "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler",
            "securityContext": {}, "terminationGracePeriodSeconds": 30,
        }),
    );
    let spec = path
        .iter()
        .try_fold(object, |place, step| place.get_mut(*step));
    let Some(spec) = spec.and_then(Value::as_object_mut) else {
        return;
    };
    for list in ["containers", "initContainers"] {
        for container in each(spec, list) {
            fill_container(container);
        }
    }
    for volume in each(spec, "volumes") {
        for source in ["configMap", "secret", "projected", "downwardAPI"] {
            if let Some(source) = volume.get_mut(source) {
                under(source, json!({"defaultMode": 420}));
            }
        }
    }
}

fn fill_container(container: &mut Value) {
    let image = text(container, "/image");
    let latest = image.ends_with(":latest")
        || !image
            .rsplit('/')
            .next()
            .is_some_and(|name| name.contains([':', '@']));
    let policy = if latest { "Always" } else { "IfNotPresent" };
    under(
        container,
        json!({
            "imagePullPolicy": policy, "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File", "resources": {},
        }),
    );
    let Some(map) = container.as_object_mut() else {
        return;
    };
    for port in each(map, "ports") {
        under(port, json!({"protocol": "TCP"}));
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = map.get_mut(probe) {
            under(
                probe,
                json!({
                    "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
                }),
            );
            if let Some(get) = probe.get_mut("httpGet") {
                under(get, json!({"scheme": "HTTP", "path": "/"}));
            }
        }
    }
}

fn each<'a>(map: &'a mut Map<String, Value>, key: &str) -> impl Iterator<Item = &'a mut Value> {
    map.get_mut(key)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

fn service(object: &mut Value) {
    // An address that is derived from the name: it must not change by itself.
    let name = text(object, "/metadata/name");
    let sum = name.bytes().fold(7_u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    });
    let address = format!("10.43.{}.{}", sum / 251 % 250 + 1, sum % 250 + 1);
    over(
        object,
        &["spec"],
        json!({
            "type": "ClusterIP", "clusterIP": address, "sessionAffinity": "None",
            "internalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
        }),
    );
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    let address = spec.get("clusterIP").cloned().unwrap_or_default();
    spec.entry("clusterIPs").or_insert_with(|| json!([address]));
    for port in each(spec, "ports") {
        let number = port.get("port").cloned().unwrap_or_default();
        under(port, json!({"protocol": "TCP", "targetPort": number}));
    }
}
