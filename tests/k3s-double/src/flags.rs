//! The flags of `k3s server` and `k3s agent`: name, kind, environment variable, who takes it.
//!
//! From memory of `k3s server --help` (recalled); what matters is that a key which real k3s takes is not called unknown.

/// How a flag's value is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any text; the last one wins.
    Text,
    /// A boolean; anything else is fatal.
    Switch,
    /// May be given several times.
    List,
    /// A whole number.
    Number,
}

/// Which commands take a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Both,
    Server,
    Agent,
}

/// One flag.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) env: &'static str,
    pub(crate) taken: Taken,
}

impl Flag {
    /// Whether `k3s agent` takes it.
    pub(crate) fn for_agent(&self) -> bool {
        self.taken != Taken::Server
    }

    /// Whether `k3s server` takes it.
    pub(crate) fn for_server(&self) -> bool {
        self.taken != Taken::Agent
    }
}

const fn flag(name: &'static str, kind: Kind, env: &'static str, taken: Taken) -> Flag {
    Flag {
        name,
        kind,
        env,
        taken,
    }
}

use Kind::{List, Number, Switch, Text};
use Taken::{Both, Server};

/// Every flag that the double knows by name.
pub(crate) const FLAGS: &[Flag] = &[
    flag("config", Text, "K3S_CONFIG_FILE", Both),
    flag("debug", Switch, "K3S_DEBUG", Both),
    flag("v", Number, "", Both),
    flag("vmodule", Text, "", Both),
    flag("log", Text, "", Both),
    flag("alsologtostderr", Switch, "", Both),
    flag("data-dir", Text, "K3S_DATA_DIR", Both),
    flag("token", Text, "K3S_TOKEN", Both),
    flag("token-file", Text, "K3S_TOKEN_FILE", Both),
    flag("server", Text, "K3S_URL", Both),
    flag("node-name", Text, "K3S_NODE_NAME", Both),
    flag("with-node-id", Switch, "", Both),
    flag("node-label", List, "", Both),
    flag("node-taint", List, "", Both),
    flag("node-ip", List, "", Both),
    flag("node-external-ip", List, "", Both),
    flag("node-internal-dns", List, "", Both),
    flag("node-external-dns", List, "", Both),
    flag("bind-address", Text, "", Both),
    flag("resolv-conf", Text, "K3S_RESOLV_CONF", Both),
    flag("flannel-iface", Text, "", Both),
    flag("flannel-conf", Text, "", Both),
    flag("flannel-cni-conf", Text, "", Both),
    flag("vpn-auth", Text, "K3S_VPN_AUTH", Both),
    flag("vpn-auth-file", Text, "K3S_VPN_AUTH_FILE", Both),
    flag("kubelet-arg", List, "", Both),
    flag("kube-proxy-arg", List, "", Both),
    flag("protect-kernel-defaults", Switch, "", Both),
    flag("docker", Switch, "", Both),
    flag("container-runtime-endpoint", Text, "", Both),
    flag("image-service-endpoint", Text, "", Both),
    flag("default-runtime", Text, "", Both),
    flag("disable-default-registry-endpoint", Switch, "", Both),
    flag("nonroot-devices", Switch, "", Both),
    flag("pause-image", Text, "", Both),
    flag("snapshotter", Text, "", Both),
    flag("private-registry", Text, "", Both),
    flag("image-credential-provider-bin-dir", Text, "", Both),
    flag("image-credential-provider-config", Text, "", Both),
    flag("airgap-extra-registry", List, "", Both),
    flag("prefer-bundled-bin", Switch, "", Both),
    flag("enable-pprof", Switch, "", Both),
    flag("rootless", Switch, "", Both),
    flag("selinux", Switch, "K3S_SELINUX", Both),
    flag("lb-server-port", Number, "K3S_LB_SERVER_PORT", Both),
    flag("disable-apiserver-lb", Switch, "", Taken::Agent),
    flag("https-listen-port", Number, "", Server),
    flag("supervisor-port", Number, "", Server),
    flag("apiserver-port", Number, "", Server),
    flag("apiserver-bind-address", Text, "", Server),
    flag("advertise-address", Text, "", Server),
    flag("advertise-port", Number, "", Server),
    flag("tls-san", List, "", Server),
    flag("tls-san-security", Switch, "", Server),
    flag("cluster-cidr", List, "", Server),
    flag("service-cidr", List, "", Server),
    flag("service-node-port-range", Text, "", Server),
    flag("cluster-dns", List, "", Server),
    flag("cluster-domain", Text, "", Server),
    flag("flannel-backend", Text, "", Server),
    flag("flannel-ipv6-masq", Switch, "", Server),
    flag("flannel-external-ip", Switch, "", Server),
    flag("egress-selector-mode", Text, "", Server),
    flag("servicelb-namespace", Text, "", Server),
    flag("write-kubeconfig", Text, "K3S_KUBECONFIG_OUTPUT", Server),
    flag("write-kubeconfig-mode", Text, "K3S_KUBECONFIG_MODE", Server),
    flag(
        "write-kubeconfig-group",
        Text,
        "K3S_KUBECONFIG_GROUP",
        Server,
    ),
    flag("helm-job-image", Text, "", Server),
    flag("agent-token", Text, "K3S_AGENT_TOKEN", Server),
    flag("agent-token-file", Text, "K3S_AGENT_TOKEN_FILE", Server),
    flag("cluster-init", Switch, "K3S_CLUSTER_INIT", Server),
    flag("cluster-reset", Switch, "K3S_CLUSTER_RESET", Server),
    flag("cluster-reset-restore-path", Text, "", Server),
    flag("kube-apiserver-arg", List, "", Server),
    flag("etcd-arg", List, "", Server),
    flag("kube-controller-manager-arg", List, "", Server),
    flag("kube-scheduler-arg", List, "", Server),
    flag("kube-cloud-controller-manager-arg", List, "", Server),
    flag("kine-tls", Switch, "", Server),
    flag("datastore-endpoint", Text, "K3S_DATASTORE_ENDPOINT", Server),
    flag("datastore-cafile", Text, "K3S_DATASTORE_CAFILE", Server),
    flag("datastore-certfile", Text, "K3S_DATASTORE_CERTFILE", Server),
    flag("datastore-keyfile", Text, "K3S_DATASTORE_KEYFILE", Server),
    flag("etcd-expose-metrics", Switch, "", Server),
    flag("etcd-disable-snapshots", Switch, "", Server),
    flag("etcd-snapshot-name", Text, "", Server),
    flag("etcd-snapshot-schedule-cron", Text, "", Server),
    flag("etcd-snapshot-reconcile-interval", Text, "", Server),
    flag("etcd-snapshot-retention", Number, "", Server),
    flag("etcd-snapshot-dir", Text, "", Server),
    flag("etcd-snapshot-compress", Switch, "", Server),
    flag("etcd-s3", Switch, "", Server),
    flag("etcd-s3-endpoint", Text, "", Server),
    flag("etcd-s3-endpoint-ca", Text, "", Server),
    flag("etcd-s3-skip-ssl-verify", Switch, "", Server),
    flag("etcd-s3-access-key", Text, "AWS_ACCESS_KEY_ID", Server),
    flag("etcd-s3-secret-key", Text, "AWS_SECRET_ACCESS_KEY", Server),
    flag("etcd-s3-session-token", Text, "AWS_SESSION_TOKEN", Server),
    flag("etcd-s3-bucket", Text, "", Server),
    flag("etcd-s3-bucket-lookup-type", Text, "", Server),
    flag("etcd-s3-region", Text, "", Server),
    flag("etcd-s3-folder", Text, "", Server),
    flag("etcd-s3-retention", Number, "", Server),
    flag("etcd-s3-proxy", Text, "", Server),
    flag("etcd-s3-config-secret", Text, "", Server),
    flag("etcd-s3-insecure", Switch, "", Server),
    flag("etcd-s3-timeout", Text, "", Server),
    flag("default-local-storage-path", Text, "", Server),
    flag("disable", List, "", Server),
    flag("disable-scheduler", Switch, "", Server),
    flag("disable-cloud-controller", Switch, "", Server),
    flag("disable-kube-proxy", Switch, "", Server),
    flag("disable-network-policy", Switch, "", Server),
    flag("disable-helm-controller", Switch, "", Server),
    flag("disable-agent", Switch, "", Server),
    flag("disable-apiserver", Switch, "", Server),
    flag("disable-controller-manager", Switch, "", Server),
    flag("disable-etcd", Switch, "", Server),
    flag("embedded-registry", Switch, "", Server),
    flag("supervisor-metrics", Switch, "", Server),
    flag("system-default-registry", Text, "", Server),
    flag("secrets-encryption", Switch, "", Server),
    flag("secrets-encryption-provider", Text, "", Server),
];

/// The flag of that name, with the short forms that k3s has.
pub(crate) fn find(name: &str) -> Option<&'static Flag> {
    let name = match name {
        "t" => "token",
        "s" => "server",
        "c" => "config",
        "d" => "data-dir",
        "o" => "write-kubeconfig",
        other => other,
    };
    FLAGS.iter().find(|flag| flag.name == name)
}
