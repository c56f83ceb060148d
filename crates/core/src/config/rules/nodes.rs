//! Machines: addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;

use trueup_model::document::{Diagnostic, codes};
use trueup_model::kinds::{Connection, Node, NodeState};

use crate::config::Config;
use crate::config::entry::Entry;

pub(super) fn check(config: &Config, findings: &mut Vec<Diagnostic>) {
    let mut seen: BTreeMap<String, &Entry<Node>> = BTreeMap::new();
    for node in config.nodes.values() {
        let (address, pointer) = match &node.spec.connection {
            Connection::Ssh(ssh) => {
                let port = ssh
                    .port
                    .or(config.fleet.spec.defaults.ssh.port)
                    .unwrap_or(22);
                host_keys(node, &ssh.host_keys, findings);
                (Some((&ssh.address, port)), "/spec/connection/ssh/address")
            }
            Connection::Local(local) => (
                local.address.as_ref().map(|a| (a, 22)),
                "/spec/connection/local/address",
            ),
        };
        let Some((address, port)) = address else {
            continue;
        };
        let place = node.place(pointer);
        if !is_host(address) {
            let message = format!("`{address}` is neither an IP address nor a DNS name");
            let finding = Diagnostic::error(codes::NODE_ADDRESS, node.file(), message).at(place);
            findings.push(finding.help("the port and the user are fields of their own"));
            continue;
        }
        if node.spec.state == NodeState::Removed {
            continue;
        }
        // The same address with another port is another machine behind one router.
        let canonical = address.parse::<IpAddr>().map_or_else(
            |_| address.to_lowercase().trim_end_matches('.').to_owned(),
            |ip| ip.to_string(),
        );
        let first = *seen.entry(format!("{canonical} {port}")).or_insert(node);
        if !std::ptr::eq(first, node) {
            let message = format!("two machines have the address {address}");
            findings.push(
                Diagnostic::error(codes::NODE_ADDRESS, node.file(), message)
                    .at(place)
                    .related(first.file(), first.place(pointer), "the other one"),
            );
        }
    }
}

/// An IP address, or a name by RFC 1123 (underscores occur in practice).
fn is_host(text: &str) -> bool {
    if text.parse::<IpAddr>().is_ok() {
        return true;
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    // `192.0.2.256` is a slip, not a name: no top-level domain is a number.
    let numeric = name
        .rsplit('.')
        .next()
        .is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.len() <= 253 && !numeric && name.split('.').all(label)
}

/// Kinds of host keys that the SSH client knows.
const KEY_KINDS: [&str; 6] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
];

fn host_keys(node: &Entry<Node>, keys: &[String], findings: &mut Vec<Diagnostic>) {
    for (index, key) in keys.iter().enumerate() {
        let mut words = key.split_whitespace();
        let kind = words.next().unwrap_or_default();
        let body = words.next().unwrap_or_default();
        let is_base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
        if KEY_KINDS.contains(&kind) && body.starts_with("AAAA") && body.chars().all(is_base64) {
            continue;
        }
        let message = "this is not a public host key";
        let place = node.place(&format!("/spec/connection/ssh/hostKeys/{index}"));
        findings.push(
            Diagnostic::error(codes::NODE_ADDRESS, node.file(), message)
                .at(place)
                .help("two words, as in `ssh-ed25519 AAAA…`; read it from a trusted place, such as the machine's console: cat /etc/ssh/ssh_host_ed25519_key.pub"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::is_host;

    #[test]
    fn addresses_and_names() {
        for good in [
            "192.0.2.1",
            "2001:db8::1",
            "node-1.example.org",
            "a_b.example.",
            "localhost",
        ] {
            assert!(is_host(good), "{good}");
        }
        for bad in [
            "",
            "192.0.2.256",
            "root@host",
            "host:22",
            "-a.example",
            "a..b",
            "a b",
        ] {
            assert!(!is_host(bad), "{bad}");
        }
    }
}
