//! Clusters: roles, the number of servers, and options that are not the author's to set.

use trueup_model::document::{Diagnostic, codes, pointer_token};
use trueup_model::kinds::{NodeState, Role};

use crate::config::Config;
use crate::config::entry::Entry;
use crate::config::kind::Kind;
use crate::config::names::BrokenNames;

/// Options that trueup computes for every machine (`docs.k3s.io`, server and agent flags).
const OWN_OPTIONS: [(&str, &str); 11] = [
    ("server", "trueup joins machines itself"),
    ("cluster-init", "trueup begins the etcd cluster itself"),
    (
        "cluster-reset",
        "restoring is an operation, not a configuration",
    ),
    ("token", "use `tokenFrom` of the Cluster"),
    ("token-file", "use `tokenFrom` of the Cluster"),
    ("agent-token", "use `tokenFrom` of the Cluster"),
    ("agent-token-file", "use `tokenFrom` of the Cluster"),
    ("node-name", "it is the name of the Node document"),
    ("node-ip", "it is the address of the Node document"),
    ("node-label", "use `labels` of the Node document"),
    ("node-taint", "use `taints` of the Node document"),
];

pub(super) fn check(config: &Config, broken: &BrokenNames, findings: &mut Vec<Diagnostic>) {
    for node in config.nodes.values() {
        roles(node, findings);
        options(
            node,
            "/spec/k3sOptions",
            node.spec.k3s_options.keys(),
            findings,
        );
    }
    for (name, cluster) in &config.clusters {
        let k3s = &cluster.spec.k3s;
        options(
            cluster,
            "/spec/k3s/server/options",
            k3s.server.options.keys(),
            findings,
        );
        options(
            cluster,
            "/spec/k3s/agent/options",
            k3s.agent.options.keys(),
            findings,
        );
        let members: Vec<_> = config
            .nodes
            .values()
            .filter(|node| node.spec.cluster.as_ref() == Some(name))
            .filter(|node| node.spec.state == NodeState::Active)
            .collect();
        let servers = members
            .iter()
            .filter(|n| n.spec.role == Some(Role::Server))
            .count();
        if !members.is_empty() && !broken.any(Kind::Node) {
            quorum(cluster, servers, findings);
        }
    }
}

fn quorum<T>(cluster: &Entry<T>, servers: usize, findings: &mut Vec<Diagnostic>) {
    let place = cluster.place("/metadata/name");
    let file = cluster.file();
    let finding = match servers {
        0 => Diagnostic::error(
            codes::QUORUM_NO_SERVER,
            file,
            "the cluster has machines, and none of them is a server",
        )
        .help("give at least one of its Nodes `role: server`"),
        2 => Diagnostic::error(
            codes::QUORUM_TWO_SERVERS,
            file,
            "two servers: when either one fails, etcd loses its majority and the cluster stops",
        )
        .help("use one server, or three"),
        even if even % 2 == 0 => Diagnostic::warning(
            codes::QUORUM_EVEN_SERVERS,
            file,
            format!("{even} servers survive no more failures than {}", even - 1),
        )
        .help("use an odd number of servers"),
        _ => return,
    };
    findings.push(finding.at(place));
}

fn roles(node: &Entry<trueup_model::kinds::Node>, findings: &mut Vec<Diagnostic>) {
    let spec = &node.spec;
    let (message, place, help) = match (&spec.cluster, spec.role) {
        (Some(_), None) => (
            "the machine has a cluster and no role",
            node.key("/spec/cluster"),
            "add `role: server` or `role: agent`",
        ),
        (None, Some(_)) => (
            "the machine has a role and no cluster",
            node.key("/spec/role"),
            "name its `cluster`, or leave the role out",
        ),
        (None, None) if !spec.k3s_options.is_empty() => (
            "the machine has k3s options and no cluster",
            node.key("/spec/k3sOptions"),
            "name its `cluster`, or leave them out",
        ),
        _ => return,
    };
    findings.push(
        Diagnostic::error(codes::K3S_ROLE, node.file(), message)
            .at(place)
            .help(help),
    );
}

fn options<'a, T>(
    entry: &Entry<T>,
    at: &str,
    names: impl Iterator<Item = &'a String>,
    findings: &mut Vec<Diagnostic>,
) {
    for name in names {
        let bare = name.trim_start_matches('-');
        let place = entry.key(&format!("{at}/{}", pointer_token(name)));
        if bare != name {
            let message = format!("write the option `{name}` without dashes");
            let finding = Diagnostic::error(codes::K3S_OPTION, entry.file(), message).at(place);
            findings.push(finding.help(format!("`{bare}`")));
        }
        if let Some((_, why)) = OWN_OPTIONS.iter().find(|(own, _)| *own == bare) {
            let message = format!("the option `{bare}` is set by trueup");
            let finding = Diagnostic::error(codes::K3S_OPTION, entry.file(), message).at(place);
            findings.push(finding.help(*why));
        }
    }
}
