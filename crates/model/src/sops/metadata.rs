//! The `sops:` block. Read as weakly as sops reads it: numbers and words may stand for each other,
//! unknown keys are passed over, the order does not matter.

use std::sync::Arc;

use super::selector::Selector;
use crate::document::{Diagnostic, Node, Severity, Span, codes, timestamp};

/// What kind of key a recipient is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecipientKind {
    /// `age1…`
    X25519,
    /// `ssh-ed25519 …`
    SshEd25519,
    /// `ssh-rsa …`
    SshRsa,
    /// `age1pq1…`, which the age library of this program cannot open yet.
    PostQuantum,
    /// `age1name1…`, opened by a program of its own; never run here.
    Plugin,
    /// Anything else.
    Unknown,
}

/// One recipient with the data key wrapped for it.
#[derive(Debug, Clone)]
pub struct Recipient {
    /// The public key as it stands in the file.
    pub name: String,
    /// What it is.
    pub kind: RecipientKind,
    /// The wrapped data key, an armoured age file.
    pub wrapped: String,
}

impl Recipient {
    fn kind_of(name: &str) -> RecipientKind {
        match name {
            _ if name.starts_with("ssh-ed25519 ") => RecipientKind::SshEd25519,
            _ if name.starts_with("ssh-rsa ") => RecipientKind::SshRsa,
            _ if name.starts_with("age1pq1") => RecipientKind::PostQuantum,
            // "1" is not in bech32's data alphabet: a second one ends a plugin's name.
            _ if name
                .strip_prefix("age1")
                .is_some_and(|rest| rest.contains('1')) =>
            {
                RecipientKind::Plugin
            }
            _ if name.starts_with("age1") => RecipientKind::X25519,
            _ => RecipientKind::Unknown,
        }
    }

    /// Whether this program could open it, given the identity.
    #[must_use]
    pub const fn supported(&self) -> bool {
        matches!(self.kind, RecipientKind::X25519 | RecipientKind::SshEd25519)
    }
}

/// What the block says.
#[derive(Debug, Clone)]
pub struct Metadata {
    /// age recipients, in file order.
    pub recipients: Vec<Recipient>,
    /// Which values are encrypted.
    pub selector: Selector,
    /// The encrypted message authentication code; `None` where the file has none.
    pub mac: Option<String>,
    /// The time of the last change as the MAC is bound to it: RFC 3339 to the second.
    pub last_modified: String,
    /// Whether clear values are left out of the MAC.
    pub mac_only_encrypted: bool,
    /// Where the block stands.
    pub span: Span,
    /// Findings that do not keep it from being used.
    pub(super) warnings: Vec<Diagnostic>,
}

/// Reads the block under `key`, or says everything that is wrong with it.
pub(super) fn read(file: &Arc<str>, key: &Node, block: &Node) -> Result<Metadata, Vec<Diagnostic>> {
    let mut findings = Vec::new();
    if block.as_mapping().is_none() {
        let message = format!("`sops` must be a mapping, this is {}", block.type_name());
        return Err(vec![
            Diagnostic::error(codes::SOPS_METADATA, file, message).at(key.span),
        ]);
    }
    let text = |name: &str| block.get(name).and_then(Node::text).unwrap_or_default();
    let last_modified = seconds(text("lastmodified"));
    if last_modified.is_none() {
        let place = block.get("lastmodified").map_or(key.span, |node| node.span);
        let message = "`lastmodified` must be a time such as 2026-01-31T12:00:00Z";
        findings.push(Diagnostic::error(codes::SOPS_METADATA, file, message).at(place));
    }
    let mac = Some(text("mac"))
        .filter(|mac| !mac.is_empty())
        .map(str::to_owned);
    if mac.is_none() {
        let message = "the file has no `mac`: nothing tells whether it was changed";
        let finding = Diagnostic::error(codes::SOPS_MAC_MISSING, file, message).at(key.span);
        findings.push(finding.help("encrypt the file again with sops"));
    }
    let mac_only_encrypted = matches!(
        text("mac_only_encrypted"),
        "true" | "True" | "TRUE" | "1" | "t" | "T"
    );
    if mac_only_encrypted {
        let place = block
            .entry("mac_only_encrypted")
            .map_or(key.span, |(key, _)| key.span);
        let message = "the clear values of this file can be changed without anyone noticing";
        let finding = Diagnostic::warning(codes::SOPS_MAC_ONLY_ENCRYPTED, file, message);
        findings.push(
            finding
                .at(place)
                .help("leave `mac_only_encrypted` out and encrypt again"),
        );
    }
    if let Some((groups, _)) = block.entry("key_groups") {
        let message = "several key groups (shamir) are not supported";
        let finding = Diagnostic::error(codes::SOPS_UNSUPPORTED, file, message).at(groups.span);
        findings.push(finding.help("use one group: list the age recipients directly"));
    }
    let recipients = recipients(file, key, block, &mut findings);
    let selector = selector(file, block, &mut findings);
    match (selector, last_modified) {
        (Some(selector), Some(last_modified)) => {
            if findings
                .iter()
                .any(|finding| finding.severity == Severity::Error)
            {
                return Err(findings);
            }
            Ok(Metadata {
                recipients,
                selector,
                mac,
                last_modified,
                mac_only_encrypted,
                span: key.span,
                warnings: findings,
            })
        }
        _ => Err(findings),
    }
}

fn recipients(
    file: &Arc<str>,
    key: &Node,
    block: &Node,
    findings: &mut Vec<Diagnostic>,
) -> Vec<Recipient> {
    let listed = block
        .get("age")
        .and_then(Node::as_sequence)
        .unwrap_or_default();
    let recipients: Vec<Recipient> = listed
        .iter()
        .filter_map(|entry| {
            let name = entry.get("recipient")?.text()?.trim().to_owned();
            let wrapped = entry.get("enc")?.text()?.to_owned();
            Some(Recipient {
                kind: Recipient::kind_of(&name),
                name,
                wrapped,
            })
        })
        .collect();
    let problem = if block.get("key_groups").is_some() {
        None
    } else if listed.is_empty() {
        Some("no age recipient is listed; keys of other kinds are not used here".to_owned())
    } else if recipients.len() < listed.len() {
        Some("an entry of `age` lacks its `recipient` or `enc`".to_owned())
    } else if !recipients.iter().any(Recipient::supported) {
        let names: Vec<_> = recipients.iter().map(|r| r.name.as_str()).collect();
        Some(format!(
            "only recipients of kinds that cannot be opened here are listed: {}",
            names.join(", ")
        ))
    } else {
        None
    };
    if let Some(message) = problem {
        let place = block.entry("age").map_or(key.span, |(key, _)| key.span);
        let finding = Diagnostic::error(codes::SOPS_RECIPIENTS, file, message).at(place);
        findings.push(finding.help("add an age1… or ssh-ed25519 recipient with sops updatekeys"));
    }
    recipients
}

fn selector(file: &Arc<str>, block: &Node, findings: &mut Vec<Diagnostic>) -> Option<Selector> {
    const RULES: [&str; 6] = [
        "unencrypted_suffix",
        "encrypted_suffix",
        "unencrypted_regex",
        "encrypted_regex",
        "unencrypted_comment_regex",
        "encrypted_comment_regex",
    ];
    let given: Vec<(&str, &Node, &str)> = RULES
        .iter()
        .filter_map(|rule| {
            let node = block.get(rule)?;
            let text = node.text().filter(|text| !text.is_empty())?;
            Some((*rule, node, text))
        })
        .collect();
    let Some((rule, node, text)) = given.first().copied() else {
        return Some(Selector::default_rule());
    };
    let mut refuse = |code, message: String| {
        findings.push(Diagnostic::error(code, file, message).at(node.span));
        None
    };
    if given.len() > 1 {
        let names: Vec<_> = given.iter().map(|(rule, ..)| *rule).collect();
        return refuse(
            codes::SOPS_SELECTOR,
            format!("only one rule may stand: {}", names.join(", ")),
        );
    }
    let compile = |text| Selector::compile(text);
    match rule {
        "unencrypted_suffix" => Some(Selector::UnencryptedSuffix(text.to_owned())),
        "encrypted_suffix" => Some(Selector::EncryptedSuffix(text.to_owned())),
        "unencrypted_regex" | "encrypted_regex" => match compile(text) {
            Ok(regex) if rule == "encrypted_regex" => Some(Selector::EncryptedRegex(regex)),
            Ok(regex) => Some(Selector::UnencryptedRegex(regex)),
            Err(why) => refuse(
                codes::SOPS_SELECTOR,
                format!("`{rule}` does not compile ({why}); sops would encrypt nothing"),
            ),
        },
        _ => refuse(
            codes::SOPS_UNSUPPORTED,
            format!("`{rule}` is not supported"),
        ),
    }
}

/// Go's `Format(time.RFC3339)` of a parsed time: fractions are dropped, offsets stay.
fn seconds(text: &str) -> Option<String> {
    if text.as_bytes().get(10) != Some(&b'T') {
        return None;
    }
    let stamp = timestamp(text)?;
    Some(match stamp.split_once('.') {
        Some((whole, rest)) => {
            format!(
                "{whole}{}",
                rest.trim_start_matches(|c: char| c.is_ascii_digit())
            )
        }
        None => stamp,
    })
}

#[cfg(test)]
mod tests {
    use super::{Recipient, RecipientKind, seconds};

    #[test]
    fn times_are_cut_to_seconds_as_go_does() {
        let cases = [
            ("2026-01-31T12:00:00Z", Some("2026-01-31T12:00:00Z")),
            (
                "2026-01-31T12:00:00.250+02:00",
                Some("2026-01-31T12:00:00+02:00"),
            ),
            ("2026-01-31T12:00:00+00:00", Some("2026-01-31T12:00:00Z")),
            ("2026-01-31", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(seconds(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn recipients_are_told_apart() {
        let cases = [
            ("age1qxzz", RecipientKind::X25519),
            ("age1pq1abc", RecipientKind::PostQuantum),
            ("age1yubikey1abc", RecipientKind::Plugin),
            ("ssh-ed25519 AAAA", RecipientKind::SshEd25519),
            ("ssh-rsa AAAA", RecipientKind::SshRsa),
            ("FBC7B9E2", RecipientKind::Unknown),
        ];
        for (name, kind) in cases {
            assert_eq!(Recipient::kind_of(name), kind, "{name}");
        }
    }
}
