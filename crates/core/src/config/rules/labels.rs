//! Labels and taints, as the API server would judge them, and those that are k3s' own.

use std::collections::BTreeMap;

use trueup_model::document::{Diagnostic, codes, pointer_token};
use trueup_model::kinds::Taint;

use crate::config::Config;
use crate::config::entry::Entry;

/// Keys that k3s or Kubernetes sets on every Node.
const FOREIGN_LABELS: [&str; 8] = [
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "node-role.kubernetes.io/control-plane",
    "node-role.kubernetes.io/etcd",
    "node-role.kubernetes.io/master",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/arch",
];

pub(super) fn check(config: &Config, findings: &mut Vec<Diagnostic>) {
    for node in config.nodes.values() {
        labels(node, &node.spec.labels, findings);
        taints(node, &node.spec.taints, findings);
        let no_cluster = node.spec.cluster.is_none();
        if no_cluster && !(node.spec.labels.is_empty() && node.spec.taints.is_empty()) {
            let field = if node.spec.labels.is_empty() {
                "taints"
            } else {
                "labels"
            };
            let message = format!("the machine is in no cluster: its {field} have no meaning");
            let place = node.key(&format!("/spec/{field}"));
            findings.push(Diagnostic::error(codes::NODE_LABEL, node.file(), message).at(place));
        }
    }
    for profile in config.profiles.values() {
        labels(profile, &profile.spec.labels, findings);
    }
}

fn labels<T>(entry: &Entry<T>, labels: &BTreeMap<String, String>, findings: &mut Vec<Diagnostic>) {
    for (key, value) in labels {
        let pointer = format!("/spec/labels/{}", pointer_token(key));
        let mut report = |why: String, place| {
            findings.push(Diagnostic::error(codes::NODE_LABEL, entry.file(), why).at(place));
        };
        if let Err(why) = qualified_name(key) {
            report(
                format!("`{key}` is not a label key: {why}"),
                entry.key(&pointer),
            );
        } else if FOREIGN_LABELS.contains(&key.as_str()) {
            report(
                format!("`{key}` is set by Kubernetes itself"),
                entry.key(&pointer),
            );
        }
        if let Err(why) = label_value(value) {
            report(
                format!("the value of `{key}` is not a label value: {why}"),
                entry.place(&pointer),
            );
        }
    }
}

fn taints<T>(entry: &Entry<T>, taints: &[Taint], findings: &mut Vec<Diagnostic>) {
    for (index, taint) in taints.iter().enumerate() {
        let at = format!("/spec/taints/{index}");
        let mut report = |why: String, place| {
            findings.push(Diagnostic::error(codes::NODE_TAINT, entry.file(), why).at(place));
        };
        let key = &taint.key;
        if let Err(why) = qualified_name(key) {
            report(
                format!("`{key}` is not a taint key: {why}"),
                entry.place(&format!("{at}/key")),
            );
        } else if key.starts_with("node.kubernetes.io/") {
            let why = format!("`{key}` is set by Kubernetes itself");
            report(why, entry.place(&format!("{at}/key")));
        }
        if let Err(why) = label_value(&taint.value) {
            let message = format!("the value of `{key}` is not a taint value: {why}");
            report(message, entry.place(&format!("{at}/value")));
        }
        let earlier = taints.iter().take(index);
        if earlier
            .clone()
            .any(|t| t.key == *key && t.effect == taint.effect)
        {
            report(
                format!("`{key}` stands twice with one effect"),
                entry.place(&at),
            );
        }
    }
}

/// `prefix/name`: the prefix a DNS name of at most 253 characters, the name at most 63.
fn qualified_name(key: &str) -> Result<(), &'static str> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if let Some(prefix) = prefix {
        let label = |part: &str| {
            !part.is_empty()
                && !part.starts_with('-')
                && !part.ends_with('-')
                && part
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        if prefix.len() > 253 || !prefix.split('.').all(label) {
            return Err("what stands before `/` must be a DNS name in lower case");
        }
    }
    if name.is_empty() {
        return Err("it has no name");
    }
    word(name)
}

fn label_value(value: &str) -> Result<(), &'static str> {
    if value.is_empty() {
        Ok(())
    } else {
        word(value)
    }
}

fn word(text: &str) -> Result<(), &'static str> {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let ends = [text.bytes().next(), text.bytes().last()];
    if text.len() > 63 {
        Err("it has more than 63 characters")
    } else if !text.bytes().all(inner) {
        Err("letters, digits, `-`, `_` and `.` only")
    } else if !ends.iter().flatten().all(u8::is_ascii_alphanumeric) {
        Err("it begins and ends with a letter or digit")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{label_value, qualified_name};

    #[test]
    fn keys_and_values_follow_kubernetes() {
        for good in ["a", "app.kubernetes.io/name", "a_b", "A.b-c"] {
            assert!(qualified_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "/a",
            "a/",
            "a/b/c",
            "A.b/c",
            "-a",
            "a b",
            &"x".repeat(64),
        ] {
            assert!(qualified_name(bad).is_err(), "{bad}");
        }
        assert!(label_value("").is_ok() && label_value("a b").is_err());
    }
}
