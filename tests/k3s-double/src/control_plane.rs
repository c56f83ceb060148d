//! Command lines of kube-apiserver, controller manager and scheduler. No secret is among their arguments.

use anyhow::Result;

use crate::certs::Identity;
use crate::child::Part;
use crate::kubeconfig;
use crate::layout::Layout;
use crate::settings::Settings;

/// The address of the real kube-apiserver, which only 6443 and local parts reach.
pub(crate) const APISERVER: &str = "https://127.0.0.1:6444";

/// Adds the arguments of a `kube-…-arg` list; a later one replaces the double's own of the same name.
fn with_given(mut own: Vec<(String, String)>, given: &[String]) -> Vec<String> {
    for argument in given {
        let (name, value) = argument.split_once('=').unwrap_or((argument, "true"));
        let name = name.trim_start_matches('-');
        own.retain(|(known, _)| known != name);
        own.push((name.to_owned(), value.to_owned()));
    }
    own.into_iter()
        .map(|(name, value)| format!("--{name}={value}"))
        .collect()
}

fn pairs(list: &[(&str, String)]) -> Vec<(String, String)> {
    list.iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect()
}

fn or<'a>(list: &'a [String], default: &'a str) -> String {
    if list.is_empty() {
        default.to_owned()
    } else {
        list.join(",")
    }
}

/// Starts kube-apiserver on the own etcd member.
pub(crate) fn start_apiserver(
    layout: &Layout,
    settings: &Settings,
    identity: &Identity,
) -> Result<Part> {
    let tls = |file: &str| layout.tls(file).display().to_string();
    let domain = settings.text("cluster-domain").unwrap_or("cluster.local");
    let issuer = format!("https://kubernetes.default.svc.{domain}");
    let advertised = settings
        .text("advertise-address")
        .map_or_else(|| identity.node_ip.to_string(), str::to_owned);
    let own = pairs(&[
        ("advertise-address", advertised),
        ("allow-privileged", "true".into()),
        ("anonymous-auth", "false".into()),
        ("api-audiences", format!("{issuer},k3s")),
        ("authorization-mode", "Node,RBAC".into()),
        ("bind-address", "127.0.0.1".into()),
        (
            "cert-dir",
            layout.tls("temporary-certs").display().to_string(),
        ),
        ("client-ca-file", tls("client-ca.crt")),
        ("enable-admission-plugins", "NodeRestriction".into()),
        ("enable-aggregator-routing", "true".into()),
        ("enable-bootstrap-token-auth", "true".into()),
        ("etcd-cafile", tls("etcd/server-ca.crt")),
        ("etcd-certfile", tls("etcd/client.crt")),
        ("etcd-keyfile", tls("etcd/client.key")),
        ("etcd-servers", "https://127.0.0.1:2379".into()),
        (
            "kubelet-preferred-address-types",
            "InternalIP,ExternalIP,Hostname".into(),
        ),
        ("profiling", "false".into()),
        ("proxy-client-cert-file", tls("client-auth-proxy.crt")),
        ("proxy-client-key-file", tls("client-auth-proxy.key")),
        ("requestheader-allowed-names", "system:auth-proxy".into()),
        ("requestheader-client-ca-file", tls("request-header-ca.crt")),
        (
            "requestheader-extra-headers-prefix",
            "X-Remote-Extra-".into(),
        ),
        ("requestheader-group-headers", "X-Remote-Group".into()),
        ("requestheader-username-headers", "X-Remote-User".into()),
        ("secure-port", "6444".into()),
        ("service-account-issuer", issuer),
        ("service-account-key-file", tls("service.pub")),
        ("service-account-signing-key-file", tls("service.key")),
        (
            "service-cluster-ip-range",
            or(&settings.split_list("service-cidr"), "10.43.0.0/16"),
        ),
        (
            "service-node-port-range",
            settings
                .text("service-node-port-range")
                .unwrap_or("30000-32767")
                .to_owned(),
        ),
        ("storage-backend", "etcd3".into()),
        ("tls-cert-file", tls("serving-kube-apiserver.crt")),
        ("tls-private-key-file", tls("serving-kube-apiserver.key")),
    ]);
    Part::start(
        "kube-apiserver",
        &with_given(own, &settings.list("kube-apiserver-arg")),
    )
}

/// Starts the controller manager. Its grace period is shorter than k3s' so that a dead machine shows in seconds.
pub(crate) fn start_controller_manager(layout: &Layout, settings: &Settings) -> Result<Part> {
    let kubeconfig_path = layout.cred("controller.kubeconfig");
    kubeconfig::write(
        layout,
        "client-controller",
        APISERVER,
        &kubeconfig_path,
        0o600,
    )?;
    let tls = |file: &str| layout.tls(file).display().to_string();
    let kubeconfig = kubeconfig_path.display().to_string();
    let own = pairs(&[
        ("allocate-node-cidrs", "true".into()),
        ("authentication-kubeconfig", kubeconfig.clone()),
        ("authorization-kubeconfig", kubeconfig.clone()),
        ("bind-address", "127.0.0.1".into()),
        (
            "cluster-cidr",
            or(&settings.split_list("cluster-cidr"), "10.42.0.0/16"),
        ),
        ("cluster-signing-cert-file", tls("client-ca.crt")),
        ("cluster-signing-key-file", tls("client-ca.key")),
        ("controllers", "*,tokencleaner".into()),
        ("kubeconfig", kubeconfig),
        ("leader-elect", "true".into()),
        ("node-monitor-grace-period", "8s".into()),
        ("node-monitor-period", "1s".into()),
        ("profiling", "false".into()),
        ("root-ca-file", tls("server-ca.crt")),
        ("secure-port", "10257".into()),
        ("service-account-private-key-file", tls("service.key")),
        (
            "service-cluster-ip-range",
            or(&settings.split_list("service-cidr"), "10.43.0.0/16"),
        ),
        ("use-service-account-credentials", "true".into()),
    ]);
    Part::start(
        "kube-controller-manager",
        &with_given(own, &settings.list("kube-controller-manager-arg")),
    )
}

/// Starts the scheduler.
pub(crate) fn start_scheduler(layout: &Layout, settings: &Settings) -> Result<Part> {
    let kubeconfig_path = layout.cred("scheduler.kubeconfig");
    kubeconfig::write(
        layout,
        "client-scheduler",
        APISERVER,
        &kubeconfig_path,
        0o600,
    )?;
    let kubeconfig = kubeconfig_path.display().to_string();
    let own = pairs(&[
        ("authentication-kubeconfig", kubeconfig.clone()),
        ("authorization-kubeconfig", kubeconfig.clone()),
        ("bind-address", "127.0.0.1".into()),
        ("kubeconfig", kubeconfig),
        ("leader-elect", "true".into()),
        ("profiling", "false".into()),
        ("secure-port", "10259".into()),
    ]);
    Part::start(
        "kube-scheduler",
        &with_given(own, &settings.list("kube-scheduler-arg")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_arguments_replace_own_ones() {
        let own = pairs(&[("v", "1".into()), ("profiling", "false".into())]);
        let given = [
            "audit-log-path=/var/log/a".to_owned(),
            "v=4".to_owned(),
            "feature".to_owned(),
        ];
        let expected = [
            "--profiling=false",
            "--audit-log-path=/var/log/a",
            "--v=4",
            "--feature=true",
        ];
        assert_eq!(with_given(own, &given), expected);
    }
}
