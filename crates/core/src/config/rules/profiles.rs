//! NodeProfiles: entries that contradict themselves or each other.

use std::collections::BTreeMap;

use trueup_model::document::{Diagnostic, codes, pointer_token};
use trueup_model::kinds::NodeProfile;

use crate::config::Config;
use crate::config::entry::Entry;

/// Paths that trueup writes itself on a member of a cluster, or keeps its own books in.
const OWN_PATHS: [&str; 4] = [
    "/etc/rancher/k3s/config.yaml",
    "/etc/systemd/system/k3s.service",
    "/etc/systemd/system/k3s-agent.service",
    "/etc/sysctl.d/60-trueup.conf",
];
const OWN_FOLDER: &str = "/var/lib/trueup/";

pub(super) fn check(config: &Config, findings: &mut Vec<Diagnostic>) {
    for profile in config.profiles.values() {
        files(profile, findings);
        sysctls(profile, findings);
        units(profile, findings);
    }
}

fn files(profile: &Entry<NodeProfile>, findings: &mut Vec<Diagnostic>) {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, file) in profile.spec.files.iter().enumerate() {
        let at = format!("/spec/files/{index}");
        let path = format!("{at}/path");
        let mut report = |message: String, pointer: &str| {
            let finding = Diagnostic::error(codes::PROFILE_FILE, profile.file(), message);
            findings.push(finding.at(profile.place(pointer)));
        };
        if file.content.is_some() == file.content_from.is_some() {
            let which = if file.content.is_some() {
                "not both"
            } else {
                "one of them"
            };
            let message = format!("`{}` takes `content` or `contentFrom`, {which}", file.path);
            report(message, &path);
        }
        if file
            .path
            .split('/')
            .skip(1)
            .any(|part| matches!(part, "" | "." | ".."))
        {
            report(
                format!("`{}` is not a plain absolute path", file.path),
                &path,
            );
        }
        if OWN_PATHS.contains(&file.path.as_str()) || file.path.starts_with(OWN_FOLDER) {
            report(
                format!("`{}` is written by trueup itself", file.path),
                &path,
            );
        }
        if seen.insert(&file.path, index).is_some() {
            report(
                format!("`{}` stands twice in this profile", file.path),
                &path,
            );
        }
    }
}

fn sysctls(profile: &Entry<NodeProfile>, findings: &mut Vec<Diagnostic>) {
    for (name, value) in &profile.spec.sysctls {
        let pointer = format!("/spec/sysctls/{}", pointer_token(name));
        let mut report = |message: String, span| {
            findings
                .push(Diagnostic::error(codes::PROFILE_SYSCTL, profile.file(), message).at(span));
        };
        let part = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'/'))
        };
        if !name.starts_with("net.") || name.contains("..") || !name.split('.').all(part) {
            let message = format!("`{name}` is not a kernel setting below `net.`");
            report(message, profile.key(&pointer));
        }
        if value.trim().is_empty() || value.contains(['\n', '\0']) {
            report(
                format!("the value of `{name}` must be one line"),
                profile.place(&pointer),
            );
        }
    }
}

fn units(profile: &Entry<NodeProfile>, findings: &mut Vec<Diagnostic>) {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, unit) in profile.spec.units.iter().enumerate() {
        let at = format!("/spec/units/{index}/name");
        let mut report = |message: String| {
            let finding = Diagnostic::error(codes::PROFILE_UNIT, profile.file(), message);
            findings.push(finding.at(profile.place(&at)));
        };
        if seen.insert(&unit.name, index).is_some() {
            report(format!("`{}` stands twice in this profile", unit.name));
        }
        if matches!(unit.name.as_str(), "k3s.service" | "k3s-agent.service") {
            report(format!("`{}` is managed by trueup itself", unit.name));
        }
        if unit.content.is_none() && unit.enabled.is_none() && unit.state.is_none() {
            report(format!(
                "`{}` asks for nothing: give content, enabled or state",
                unit.name
            ));
        }
        let path = format!("/etc/systemd/system/{}", unit.name);
        if unit.content.is_some() && profile.spec.files.iter().any(|file| file.path == path) {
            report(format!("`{path}` is in `files` too"));
        }
    }
}
