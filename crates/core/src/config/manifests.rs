//! The manifests of Applications, each with its place. Read with kubectl's meaning.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value as Json;
use trueup_model::document::{
    Diagnostic, Document, Node, Resolver, Severity, Span, Value, codes, parse,
};
use trueup_model::id::ClusterName;
use trueup_model::kinds::{self, ApplicationState, Source};
use trueup_model::origin::Origin;
use trueup_model::sops::SopsFile;

use super::Config;
use super::entry::{Entry, origin_of};
use super::fleet::Scope;
use super::shape::Shape;
use super::survey::{Survey, Surveyed, has_error};

/// An Application with what it consists of.
#[derive(Debug, Clone)]
pub struct Application {
    /// Its document.
    pub entry: Entry<kinds::Application>,
    /// Its manifests, in the order of files and lines.
    pub manifests: Vec<Manifest>,
    /// What could not be used. While there is any, nothing of the Application may be pruned: what
    /// it held is not known.
    pub broken: Vec<Broken>,
}

/// A manifest, or a file of some, that cannot be used.
#[derive(Debug, Clone)]
pub struct Broken {
    /// Where it is.
    pub origin: Origin,
    /// Why, in the words of its finding.
    pub why: String,
}

/// One object as it was written.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// `v1`, `apps/v1`.
    pub api_version: String,
    /// `Deployment`.
    pub kind: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`, where it is said.
    pub namespace: Option<String>,
    /// Where it begins.
    pub origin: Origin,
    /// The object.
    pub body: Body,
    document: Arc<Document>,
    /// Where the object is in its document: a List holds several.
    pointer: String,
}

/// The object of a manifest.
#[derive(Debug, Clone)]
pub enum Body {
    /// In clear text.
    Clear(Arc<Json>),
    /// Encrypted: the document of this position in the file.
    Encrypted(Arc<SopsFile>, usize),
}

impl Manifest {
    /// Where the field at this JSON pointer of the object (`/spec/replicas`) is written; what does
    /// not exist is where its nearest existing parent is.
    #[must_use]
    pub fn line_of(&self, pointer: &str) -> Origin {
        let found = self
            .document
            .root
            .nearest(&format!("{}{pointer}", self.pointer));
        origin_of(
            &self.document,
            found.key.map_or(found.node.span, |key| key.span),
        )
    }
}

type Identity = (String, String, String, String);

impl Manifest {
    /// What makes two manifests the same object: group, kind, namespace, name.
    fn identity(&self, default_namespace: Option<&str>) -> Identity {
        let group = self
            .api_version
            .split_once('/')
            .map_or("", |(group, _)| group);
        let namespace = self
            .namespace
            .as_deref()
            .or(default_namespace)
            .unwrap_or_default();
        (
            group.to_owned(),
            self.kind.clone(),
            namespace.to_owned(),
            self.name.clone(),
        )
    }
}

impl Application {
    pub(super) const fn of(entry: Entry<kinds::Application>) -> Self {
        Self {
            entry,
            manifests: Vec::new(),
            broken: Vec::new(),
        }
    }

    fn fail(&mut self, finding: &Diagnostic) {
        let line = finding
            .span
            .map_or(1, |span| u32::try_from(span.line).unwrap_or(u32::MAX));
        let origin = Origin::new(Arc::clone(&finding.file), line);
        self.broken.push(Broken {
            origin,
            why: finding.message.clone(),
        });
    }
}

/// Reads the manifests of all Applications, and says which manifests none of them reaches.
pub(super) fn resolve(
    survey: &Survey,
    scope: &Scope<'_>,
    config: &mut Config,
    findings: &mut Vec<Diagnostic>,
) {
    let mut reached = BTreeSet::new();
    for application in config.applications.values_mut() {
        let mut found = Vec::new();
        gather(survey, scope, application, &mut reached, &mut found);
        for finding in found.iter().filter(|f| f.severity == Severity::Error) {
            application.fail(finding);
        }
        findings.append(&mut found);
    }
    duplicates(config, findings);
    for (path, surveyed) in survey.files.iter().filter(|(path, _)| scope.owns(path)) {
        if !reached.contains(path.as_str()) && !survey.is_part_of_chart(path) {
            findings.extend(surveyed.manifest.iter().cloned());
            // Nobody needs the file; should somebody have meant it to be read, this tells.
            let unread = surveyed.syntax.iter().filter(|_| !surveyed.concerns_us());
            findings.extend(unread.map(|f| Diagnostic {
                severity: Severity::Warning,
                ..f.clone()
            }));
        }
    }
}

fn gather<'a>(
    survey: &'a Survey,
    scope: &Scope<'_>,
    application: &mut Application,
    reached: &mut BTreeSet<&'a str>,
    findings: &mut Vec<Diagnostic>,
) {
    let entry = application.entry.clone();
    let Source::Path(path) = &entry.spec.source;
    let place = entry.place("/spec/source/path");
    let fault = |code, message: String| Diagnostic::error(code, entry.file(), message).at(place);
    let Some(full) = scope.resolve(path) else {
        let finding = fault(
            codes::REF_PATH,
            format!("`{path}` leads out of the Fleet's folder"),
        );
        findings.push(finding.help("write it relative to the Fleet's folder, without `..`"));
        return;
    };
    let inside = |name: &str| scope.owns(name) && trueup_model::tree::lies_below(name, &full);
    let marks = [
        "kustomization.yaml",
        "kustomization.yml",
        "Kustomization",
        "Chart.yaml",
    ];
    let mark = survey
        .paths
        .iter()
        .find(|name| inside(name) && marks.contains(&name.rsplit('/').next().unwrap_or_default()));
    if let Some(mark) = mark {
        let message = format!("`{path}` holds {mark}, which is not a folder of plain manifests");
        let help = "point at plain manifests; kustomizations and charts are not rendered yet";
        findings.push(fault(codes::REF_NOT_RAW, message).help(help));
        return;
    }
    for (name, surveyed) in survey.files.iter().filter(|(name, _)| inside(name)) {
        reached.insert(name);
        read(surveyed, application, findings);
    }
    let removed = entry.spec.state == ApplicationState::Removed;
    if application.manifests.is_empty() && !has_error(findings) && !removed {
        let there = survey.paths.iter().any(|name| inside(name));
        let message = if there {
            format!("`{path}` holds no manifest")
        } else {
            format!("there is nothing at `{path}`")
        };
        let help = "to remove an Application with its objects, say `state: removed`";
        findings.push(fault(codes::REF_PATH, message).help(help));
    }
}

/// The manifests of one file.
fn read(surveyed: &Surveyed, application: &mut Application, findings: &mut Vec<Diagnostic>) {
    match &surveyed.sops {
        Some(Ok(file)) => {
            for (position, document) in file.documents.iter().enumerate() {
                let body = Body::Encrypted(Arc::clone(file), position);
                object(&Arc::new(document.clone()), "", body, application, findings);
            }
            return;
        }
        Some(Err(faults)) => {
            // Reported with the file itself.
            let errors = faults.iter().filter(|f| f.severity == Severity::Error);
            errors.for_each(|fault| application.fail(fault));
            return;
        }
        None => {}
    }
    let parsed = parse(&surveyed.file, &surveyed.text, Resolver::Kubernetes);
    findings.extend(parsed.findings);
    for document in parsed.documents {
        let ours = surveyed.claimed.contains(&document.index);
        if ours || document.flawed {
            continue;
        }
        let document = Arc::new(document);
        let items = document.root.get("items").and_then(Node::as_sequence);
        let list = document.root.get("kind").and_then(Node::as_str);
        match (items, list) {
            (Some(items), Some(kind)) if kind.ends_with("List") => {
                for (index, item) in items.iter().enumerate() {
                    let body = Body::Clear(Arc::new(item.to_json()));
                    let pointer = format!("/items/{index}");
                    object(&document, &pointer, body, application, findings);
                }
            }
            _ => {
                let body = Body::Clear(Arc::new(document.root.to_json()));
                object(&document, "", body, application, findings);
            }
        }
    }
}

/// One object, if it has the shape of one.
fn object(
    document: &Arc<Document>,
    pointer: &str,
    body: Body,
    application: &mut Application,
    findings: &mut Vec<Diagnostic>,
) {
    let Some(root) = document.root.at_pointer(pointer).map(|found| found.node) else {
        return;
    };
    if root.value == Value::Null {
        return;
    }
    let before = findings.len();
    let mut shape = Shape {
        document,
        root,
        findings,
    };
    let api_version = shape.text(&["apiVersion"]);
    let kind = shape.text(&["kind"]);
    let name = shape.text(&["metadata", "name"]);
    let namespace = root.str_at(&["metadata", "namespace"]).map(str::to_owned);
    shape.texts_only();
    if matches!(body, Body::Clear(_)) {
        shape.plain_secret();
    }
    if has_error(findings.get(before..).unwrap_or_default()) {
        return;
    }
    let (Some(api_version), Some(kind), Some(name)) = (api_version, kind, name) else {
        return;
    };
    application.manifests.push(Manifest {
        api_version,
        kind,
        name,
        namespace,
        origin: origin_of(document, root.span),
        body,
        document: Arc::clone(document),
        pointer: pointer.to_owned(),
    });
}

/// One object in two manifests of one cluster, be it in two Applications.
fn duplicates(config: &mut Config, findings: &mut Vec<Diagnostic>) {
    let mut seen: BTreeMap<(ClusterName, Identity), (Arc<str>, Span)> = BTreeMap::new();
    for application in config.applications.values_mut() {
        let cluster = application.entry.spec.cluster.clone();
        let default = application.entry.spec.namespace.clone();
        let mut twice = Vec::new();
        let manifests = std::mem::take(&mut application.manifests);
        application.manifests = manifests
            .into_iter()
            .filter(|manifest| {
                let identity = manifest.identity(default.as_deref());
                let pointer = format!("{}/metadata/name", manifest.pointer);
                let span = manifest.document.root.nearest(&pointer).node.span;
                let here = (Arc::clone(&manifest.document.file), span);
                let first = seen
                    .entry((cluster.clone(), identity))
                    .or_insert_with(|| here.clone());
                if *first != here {
                    let (kind, name) = (&manifest.kind, &manifest.name);
                    let message = format!("{kind} {name} is in another manifest already");
                    let finding = Diagnostic::error(codes::MANIFEST_DUPLICATE, &here.0, message);
                    let finding = finding.at(span).label("again here");
                    twice.push(finding.related(&first.0, first.1, "first here"));
                }
                *first == here
            })
            .collect();
        for finding in twice {
            application.fail(&finding);
            findings.push(finding);
        }
    }
}
