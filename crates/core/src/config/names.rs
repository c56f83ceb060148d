//! Documents by kind and name, typed.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use trueup_model::document::{Diagnostic, Document, codes};
use trueup_model::id::{AppName, ClusterName, IdError, NodeName, ProfileName};
use trueup_model::kinds;

use super::check::check;
use super::entry::Entry;
use super::fleet::{self, Scope};
use super::kind::Kind;
use super::survey::Survey;

/// The documents of one fleet.
#[derive(Default)]
pub(super) struct Named {
    pub broken: BrokenNames,
    pub nodes: BTreeMap<NodeName, Entry<kinds::Node>>,
    pub profiles: BTreeMap<ProfileName, Entry<kinds::NodeProfile>>,
    pub clusters: BTreeMap<ClusterName, Entry<kinds::Cluster>>,
    pub applications: BTreeMap<AppName, Entry<kinds::Application>>,
}

/// Names of documents that exist and cannot be used. Whoever refers to one is not to blame, and what
/// counts documents cannot count.
#[derive(Default)]
pub(super) struct BrokenNames {
    named: BTreeSet<(Kind, String)>,
    /// Names that stand in files which cannot be read at all.
    unreadable: BTreeSet<String>,
}

impl BrokenNames {
    /// Whether a document of this kind and name exists, though it cannot be used.
    pub(super) fn has(&self, kind: Kind, name: &str) -> bool {
        self.unreadable.contains(name) || self.named.contains(&(kind, name.to_owned()))
    }

    /// Whether any document of this kind may be missing.
    pub(super) fn any(&self, kind: Kind) -> bool {
        !self.unreadable.is_empty() || self.named.iter().any(|(broken, _)| *broken == kind)
    }

    fn add(&mut self, kind: Kind, document: &Document) {
        if let Some(name) = document.root.str_at(&["metadata", "name"]) {
            self.named.insert((kind, name.to_owned()));
        }
    }

    /// Whatever follows a `name:` in a text that is no YAML.
    fn add_unreadable(&mut self, text: &str) {
        let after = text.split("name:").skip(1);
        let end = |c: char| matches!(c, '\n' | ',' | '}' | '#');
        let names = after.filter_map(|rest| rest.split(end).next());
        let trimmed = names.map(|name| name.trim().trim_matches(['"', '\'']).to_owned());
        self.unreadable.extend(trimmed);
    }
}

/// Types all documents of the fleet and finds names that stand twice.
pub(super) fn collect(survey: &Survey, scope: &Scope<'_>, findings: &mut Vec<Diagnostic>) -> Named {
    let mut named = Named::default();
    fleet::strays(survey, scope, findings);
    for (_, surveyed) in survey.files.iter().filter(|(path, _)| scope.owns(path)) {
        let unreadable = surveyed.syntax.iter().any(|f| f.code == codes::YAML_SYNTAX);
        if unreadable && surveyed.concerns_us() {
            named.broken.add_unreadable(&surveyed.text);
        }
        for (kind, document) in &surveyed.ours {
            match kind {
                // Read already, to know the scope.
                Kind::Fleet => {}
                Kind::Node => add(
                    &mut named.nodes,
                    &mut named.broken,
                    *kind,
                    document,
                    findings,
                ),
                Kind::NodeProfile => add(
                    &mut named.profiles,
                    &mut named.broken,
                    *kind,
                    document,
                    findings,
                ),
                Kind::Cluster => add(
                    &mut named.clusters,
                    &mut named.broken,
                    *kind,
                    document,
                    findings,
                ),
                Kind::Application => add(
                    &mut named.applications,
                    &mut named.broken,
                    *kind,
                    document,
                    findings,
                ),
            }
        }
    }
    named
}

fn add<N, T>(
    all: &mut BTreeMap<N, Entry<T>>,
    broken: &mut BrokenNames,
    kind: Kind,
    document: &Arc<Document>,
    findings: &mut Vec<Diagnostic>,
) where
    N: FromStr<Err = IdError> + Ord,
    T: DeserializeOwned,
{
    let Some((name, entry)) = typed::<N, T>(kind, document, findings) else {
        broken.add(kind, document);
        return;
    };
    match all.entry(name) {
        Slot::Vacant(slot) => {
            slot.insert(entry);
        }
        Slot::Occupied(first) => {
            let first = first.get();
            let message = format!("there are two {}s of this name", kind.name());
            findings.push(
                Diagnostic::error(codes::CONFIG_DUPLICATE_NAME, &document.file, message)
                    .at(entry.place("/metadata/name"))
                    .label("again here")
                    .related(first.file(), first.place("/metadata/name"), "first here"),
            );
        }
    }
}

/// A document as its type, or everything that is wrong with it.
pub(super) fn typed<N, T>(
    kind: Kind,
    document: &Arc<Document>,
    findings: &mut Vec<Diagnostic>,
) -> Option<(N, Entry<T>)>
where
    N: FromStr<Err = IdError>,
    T: DeserializeOwned,
{
    let json = document.root.to_json();
    let faults = check(kind, document, &json);
    if !faults.is_empty() || document.flawed {
        findings.extend(faults);
        return None;
    }
    let name = document.root.at_pointer("/metadata/name")?.node;
    let fault = |message: String, span| {
        Diagnostic::error(codes::CONFIG_VALUE, &document.file, message).at(span)
    };
    // Schema and types are made from one source; what only the types refuse still has a place.
    let parsed = name.as_str().unwrap_or_default().parse::<N>();
    let spec = json.get("spec").cloned().unwrap_or_default();
    match (parsed, serde_json::from_value::<T>(spec)) {
        (Ok(name), Ok(spec)) => Some((name, Entry::new(spec, Arc::clone(document)))),
        (parsed, spec) => {
            let span = document
                .root
                .entry("spec")
                .map_or(document.root.span, |(key, _)| key.span);
            findings.extend(
                parsed
                    .err()
                    .map(|error| fault(error.to_string(), name.span)),
            );
            findings.extend(spec.err().map(|error| fault(error.to_string(), span)));
            None
        }
    }
}
