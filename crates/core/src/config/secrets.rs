//! References to encrypted files: each names one file and a key that is in it. Keys of sops files
//! stand in clear text, so this needs no identity.

use std::sync::Arc;

use trueup_model::document::{Diagnostic, Node, Span, Value, codes};
use trueup_model::kinds::SecretRef;
use trueup_model::sops::SopsFile;

use super::Config;
use super::fleet::Scope;
use super::spelling;
use super::survey::{Survey, has_error};

/// What may follow the path of a reference.
const ENDINGS: [&str; 9] = [
    ".enc.yaml",
    ".enc.yml",
    ".enc.json",
    ".sops.yaml",
    ".sops.yml",
    ".sops.json",
    ".yaml",
    ".yml",
    ".json",
];

/// One reference with its place.
struct Reference<'a> {
    secret: &'a SecretRef,
    file: &'a Arc<str>,
    /// Where the path stands.
    path: Span,
    /// Where the key stands.
    key: Span,
}

pub(super) fn resolve(
    survey: &Survey,
    scope: &Scope<'_>,
    config: &mut Config,
    findings: &mut Vec<Diagnostic>,
) {
    let mut secrets = std::mem::take(&mut config.secrets);
    for reference in references(config) {
        let path = &reference.secret.secret;
        let found = match secrets.get(path) {
            Some(found) => Clone::clone(found),
            None => match find(survey, scope, path) {
                Ok(found) => found,
                Err((message, help)) => {
                    let finding = Diagnostic::error(codes::REF_SECRET, reference.file, message);
                    let mut finding = finding.at(reference.path);
                    finding.help = help;
                    findings.push(finding);
                    continue;
                }
            },
        };
        if let Ok(file) = &found {
            findings.extend(check_key(&reference, file));
        }
        secrets.insert(path.clone(), found);
    }
    config.secrets = secrets;
}

fn references(config: &Config) -> Vec<Reference<'_>> {
    let mut references = Vec::new();
    for cluster in config.clusters.values() {
        references.push(Reference {
            secret: &cluster.spec.k3s.token_from,
            file: cluster.file(),
            path: cluster.place("/spec/k3s/tokenFrom/secret"),
            key: cluster.place("/spec/k3s/tokenFrom/key"),
        });
    }
    for profile in config.profiles.values() {
        for (index, file) in profile.spec.files.iter().enumerate() {
            if let Some(secret) = &file.content_from {
                let at = format!("/spec/files/{index}/contentFrom");
                references.push(Reference {
                    secret,
                    file: profile.file(),
                    path: profile.place(&format!("{at}/secret")),
                    key: profile.place(&format!("{at}/key")),
                });
            }
        }
    }
    references
}

type Fault = (String, Option<String>);

/// The one file of a reference: usable or not, or why there is no one file.
fn find(
    survey: &Survey,
    scope: &Scope<'_>,
    path: &str,
) -> Result<Result<Arc<SopsFile>, String>, Fault> {
    let Some(full) = scope.resolve(path) else {
        let help = "write it relative to the Fleet's folder, without `..`".to_owned();
        return Err((
            format!("`{path}` leads out of the Fleet's folder"),
            Some(help),
        ));
    };
    let matches: Vec<String> = ENDINGS
        .iter()
        .map(|ending| format!("{full}{ending}"))
        .filter(|name| survey.paths.binary_search(name).is_ok() && scope.owns(name))
        .collect();
    match matches.as_slice() {
        [only] => Ok(usable(survey, only)),
        [] => Err(absent(survey, scope, path, &full)),
        several => {
            let listed: Vec<String> = several.iter().map(|name| format!("`{name}`")).collect();
            let message = format!("`{path}` could be any of {}", listed.join(", "));
            Err((message, Some("keep one of them".to_owned())))
        }
    }
}

fn usable(survey: &Survey, path: &str) -> Result<Arc<SopsFile>, String> {
    let Some(surveyed) = survey.files.get(path) else {
        return Err(format!("{path} cannot be read"));
    };
    // A file without a block, or one that is broken as YAML, is read again for its findings.
    let read = match &surveyed.sops {
        Some(read) => read.clone(),
        None => SopsFile::read(&surveyed.file, &surveyed.text).map(Arc::new),
    };
    read.map_err(|faults| {
        let first = faults
            .iter()
            .find(|fault| has_error(std::slice::from_ref(*fault)));
        first.map_or_else(
            || format!("{path} cannot be used"),
            |fault| format!("{}: {}", fault.place(), fault.message),
        )
    })
}

fn absent(survey: &Survey, scope: &Scope<'_>, path: &str, full: &str) -> Fault {
    let message = format!("there is no secret file `{path}`");
    let with_ending = ENDINGS.iter().find_map(|ending| path.strip_suffix(ending));
    if let Some(bare) = with_ending {
        return (message, Some(format!("leave the suffix out: `{bare}`")));
    }
    let dotted = format!("{full}.");
    let other = survey.paths.iter().find(|name| name.starts_with(&dotted));
    if let Some(other) = other {
        let help = format!("`{other}` is of a format that is not supported; use .enc.yaml");
        return (message, Some(help));
    }
    let known: Vec<&str> = survey
        .files
        .iter()
        .filter(|(name, surveyed)| surveyed.sops.is_some() && scope.owns(name))
        .filter_map(|(name, _)| ENDINGS.iter().find_map(|ending| name.strip_suffix(ending)))
        .collect();
    let near = spelling::suggestion(full, known);
    (
        message,
        near.or_else(|| Some(format!("it would be `{full}.enc.yaml`"))),
    )
}

/// A key that is not in the file, or holds more than one value.
fn check_key(reference: &Reference<'_>, file: &SopsFile) -> Option<Diagnostic> {
    let root = &file.documents.first()?.root;
    let key = &reference.secret.key;
    let fault = |message: String| {
        Diagnostic::error(codes::REF_SECRET, reference.file, message).at(reference.key)
    };
    match lookup(root, key) {
        None => {
            let keys = root.as_mapping().unwrap_or_default().iter();
            let keys = keys
                .filter_map(|(key, _)| key.as_str())
                .filter(|key| *key != "sops");
            let mut finding = fault(format!("{} has no key `{key}`", file.file));
            finding.help = spelling::suggestion(key, keys);
            Some(finding)
        }
        Some(node) => match &node.value {
            Value::Mapping(_) | Value::Sequence(_) | Value::Null => Some(fault(format!(
                "`{key}` in {} is {}",
                file.file,
                node.type_name()
            ))),
            _ => None,
        },
    }
}

/// The same path rule as for decrypted values: keys may hold dots themselves.
fn lookup<'a>(node: &'a Node, path: &str) -> Option<&'a Node> {
    if let Some(found) = node.get(path) {
        return Some(found);
    }
    let dots = path.match_indices('.').rev();
    dots.filter_map(|(at, _)| Some((path.get(..at)?, path.get(at + 1..)?)))
        .find_map(|(key, rest)| lookup(node.get(key)?, rest))
}
