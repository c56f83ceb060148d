//! Names that one document gives of another.

use std::fmt::Display;

use trueup_model::document::{Diagnostic, codes};
use trueup_model::id::NodeName;
use trueup_model::kinds::Connection;

use crate::config::entry::Entry;
use crate::config::kind::Kind;
use crate::config::names::BrokenNames;
use crate::config::{Config, spelling};

pub(super) fn check(config: &Config, broken: &BrokenNames, findings: &mut Vec<Diagnostic>) {
    let profiles = || config.profiles.keys().map(|name| name.as_str());
    let clusters = || config.clusters.keys().map(|name| name.as_str());
    for (index, name) in config.fleet.spec.defaults.profiles.iter().enumerate() {
        if !config.profiles.contains_key(name) && !broken.has(Kind::NodeProfile, name.as_str()) {
            let at = format!("/spec/defaults/profiles/{index}");
            findings.push(dangling(
                &config.fleet,
                &at,
                "NodeProfile",
                name,
                profiles(),
            ));
        }
    }
    for (name, node) in &config.nodes {
        for (index, profile) in node.spec.profiles.iter().enumerate() {
            let known = config.profiles.contains_key(profile)
                || broken.has(Kind::NodeProfile, profile.as_str());
            if !known {
                let at = format!("/spec/profiles/{index}");
                findings.push(dangling(node, &at, "NodeProfile", profile, profiles()));
            }
        }
        if let Some(cluster) = &node.spec.cluster
            && !config.clusters.contains_key(cluster)
            && !broken.has(Kind::Cluster, cluster.as_str())
        {
            findings.push(dangling(
                node,
                "/spec/cluster",
                "Cluster",
                cluster,
                clusters(),
            ));
        }
        jumps(config, broken, name, findings);
    }
    for application in config.applications.values() {
        let (entry, cluster) = (&application.entry, &application.entry.spec.cluster);
        let known =
            config.clusters.contains_key(cluster) || broken.has(Kind::Cluster, cluster.as_str());
        if !known {
            findings.push(dangling(
                entry,
                "/spec/cluster",
                "Cluster",
                cluster,
                clusters(),
            ));
        }
    }
}

fn dangling<'a, T>(
    entry: &Entry<T>,
    pointer: &str,
    kind: &str,
    name: impl Display,
    known: impl Iterator<Item = &'a str>,
) -> Diagnostic {
    let message = format!("there is no {kind} `{name}` in this Fleet");
    let mut finding =
        Diagnostic::error(codes::REF_DANGLING, entry.file(), message).at(entry.place(pointer));
    finding.help = spelling::suggestion(&name.to_string(), known);
    finding
}

/// Jump hosts are Nodes reached by SSH, and no way leads back to where it began.
fn jumps(config: &Config, broken: &BrokenNames, name: &NodeName, findings: &mut Vec<Diagnostic>) {
    let Some(node) = config.nodes.get(name) else {
        return;
    };
    let Connection::Ssh(ssh) = &node.spec.connection else {
        return;
    };
    for (index, hop) in ssh.jump.iter().enumerate() {
        let pointer = format!("/spec/connection/ssh/jump/{index}");
        let Some(target) = config.nodes.get(hop) else {
            if broken.has(Kind::Node, hop.as_str()) {
                continue;
            }
            let known = config.nodes.keys().map(|name| name.as_str());
            findings.push(dangling(node, &pointer, "Node", hop, known));
            continue;
        };
        let place = node.place(&pointer);
        if matches!(target.spec.connection, Connection::Local(_)) {
            let message = format!("`{hop}` is the machine that trueup runs on: no jump is needed");
            let finding = Diagnostic::error(codes::REF_CYCLE, node.file(), message).at(place);
            findings.push(finding.help("leave it out"));
        } else if leads_to(config, hop, name) {
            let message = format!("the way to `{name}` leads through itself");
            findings.push(Diagnostic::error(codes::REF_CYCLE, node.file(), message).at(place));
        }
    }
}

fn leads_to(config: &Config, from: &NodeName, goal: &NodeName) -> bool {
    let mut open = vec![from];
    let mut seen = std::collections::BTreeSet::new();
    while let Some(name) = open.pop() {
        if name == goal {
            return true;
        }
        if !seen.insert(name) {
            continue;
        }
        if let Some(Connection::Ssh(ssh)) = config.nodes.get(name).map(|n| &n.spec.connection) {
            open.extend(&ssh.jump);
        }
    }
    false
}
