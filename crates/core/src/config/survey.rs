//! Every file once: whose it is, and what is wrong with it as a file.

use std::collections::BTreeMap;
use std::sync::Arc;

use trueup_model::document::{
    Diagnostic, Document, Node, Parsed, Resolver, Severity, Sources, codes, parse, text_of,
};
use trueup_model::kinds::API_VERSION;
use trueup_model::sops::{SopsFile, holds_sops_block};
use trueup_model::tree::{FILE_BYTES_MAX, Tree, TreeEntry, folder_of};

use super::fleet::Scope;
use super::kind::Kind;
use super::spelling;

/// The group of our kinds.
const GROUP: &str = "trueup.dev";

/// What a file turned out to be.
pub(super) struct Surveyed {
    /// Documents of ours with their kinds.
    pub ours: Vec<(Kind, Arc<Document>)>,
    /// Documents with our apiVersion of which nothing else can be said, or nearly ours.
    pub strange: Vec<Diagnostic>,
    /// Findings of the YAML reader in the meaning of our own documents.
    pub syntax: Vec<Diagnostic>,
    /// Positions of the documents that are ours or nearly so.
    pub claimed: Vec<usize>,
    /// The first document that has the shape of a manifest.
    pub manifest: Option<Diagnostic>,
    /// Encrypted, and what became of it.
    pub sops: Option<Result<Arc<SopsFile>, Vec<Diagnostic>>>,
    /// The text, to read it again in another meaning.
    pub text: Arc<str>,
    /// The name that spans refer to.
    pub file: Arc<str>,
}

impl Surveyed {
    /// Whether a document of ours is, or may have been meant to be, in the file.
    pub(super) fn concerns_us(&self) -> bool {
        !self.claimed.is_empty() || self.text.contains(API_VERSION)
    }
}

/// All files of a tree.
pub(super) struct Survey {
    pub files: BTreeMap<String, Surveyed>,
    /// Paths of all entries, read or not.
    pub paths: Vec<String>,
    /// Findings about entries as such, each with its path.
    entries: Vec<(String, Diagnostic)>,
    pub sources: Sources,
}

pub(super) fn survey(tree: &Tree) -> Survey {
    let mut survey = Survey {
        files: BTreeMap::new(),
        paths: tree.entries.keys().cloned().collect(),
        entries: Vec::new(),
        sources: Sources::default(),
    };
    for name in &tree.odd_names {
        let file: Arc<str> = Arc::from(name.as_str());
        let message = "the name is not UTF-8; nothing here is read";
        let finding = Diagnostic::warning(codes::TREE_NAME, &file, message);
        survey.entries.push((name.clone(), finding));
    }
    for (path, entry) in &tree.entries {
        if !hidden(path) {
            survey.entry(path, entry);
        }
    }
    survey.case(tree);
    survey
}

/// Whether a path lies in a dot folder (`.github`) or is a dot file (`.sops.yaml`).
fn hidden(path: &str) -> bool {
    path.split('/').any(|part| part.starts_with('.'))
}

impl Survey {
    fn entry(&mut self, path: &str, entry: &TreeEntry) {
        let file: Arc<str> = Arc::from(path);
        let finding = match entry {
            TreeEntry::File(bytes) => {
                if !Tree::wants(path) {
                    return;
                }
                match text_of(&file, bytes) {
                    Ok(text) => return self.document(path, &file, text),
                    Err(finding) => *finding,
                }
            }
            TreeEntry::Unread { bytes } if Tree::wants(path) => {
                let message =
                    format!("{bytes} bytes, more than the {FILE_BYTES_MAX} that are read");
                Diagnostic::error(codes::TREE_TOO_LARGE, &file, message)
            }
            TreeEntry::Unread { .. } => return,
            TreeEntry::Symlink => {
                let message = "a symbolic link is never followed";
                Diagnostic::error(codes::TREE_SYMLINK, &file, message)
                    .help("put a copy of the file here, or point at the file itself")
            }
            TreeEntry::Other => {
                let message = "a submodule or special file; nothing in it is read";
                Diagnostic::warning(codes::TREE_SUBMODULE, &file, message)
            }
        };
        self.entries.push((path.to_owned(), finding));
    }

    fn document(&mut self, path: &str, file: &Arc<str>, text: &str) {
        let text: Arc<str> = Arc::from(text);
        self.sources.insert(Arc::clone(file), Arc::clone(&text));
        let surveyed = classify(file, &text);
        self.files.insert(path.to_owned(), surveyed);
    }

    /// Names that become one on a file system that folds case.
    fn case(&mut self, tree: &Tree) {
        let mut seen: BTreeMap<String, &str> = BTreeMap::new();
        for path in tree.entries.keys().filter(|path| !hidden(path)) {
            let ends = path
                .match_indices('/')
                .map(|(at, _)| at)
                .chain([path.len()]);
            for prefix in ends.filter_map(|end| path.get(..end)) {
                let first = *seen.entry(prefix.to_lowercase()).or_insert(prefix);
                if first != prefix {
                    let file: Arc<str> = Arc::from(prefix);
                    let message = format!("differs from `{first}` in upper and lower case only");
                    let finding = Diagnostic::warning(codes::TREE_CASE, &file, message);
                    self.entries.push((path.clone(), finding));
                }
            }
        }
    }

    /// Everything found in the files themselves that keeps this fleet from being loaded.
    pub(super) fn report(&self, scope: &Scope<'_>, findings: &mut Vec<Diagnostic>) {
        let entries = self.entries.iter().filter(|(path, _)| scope.owns(path));
        findings.extend(entries.map(|(_, finding)| finding.clone()));
        for (_, surveyed) in self.files.iter().filter(|(path, _)| scope.owns(path)) {
            findings.extend(surveyed.strange.iter().cloned());
            if surveyed.concerns_us() {
                findings.extend(surveyed.syntax.iter().cloned());
            }
        }
    }

    /// What is wrong with encrypted files. They do not stop the rest: what uses one is marked.
    pub(super) fn report_secrets(&self, scope: &Scope<'_>, findings: &mut Vec<Diagnostic>) {
        for (_, surveyed) in self.files.iter().filter(|(path, _)| scope.owns(path)) {
            match &surveyed.sops {
                Some(Ok(file)) => findings.extend(file.warnings.iter().cloned()),
                Some(Err(faults)) => findings.extend(faults.iter().cloned()),
                None => {}
            }
        }
    }

    /// Whether a folder or one above it is a chart or kustomization, whose files are templates and
    /// parts rather than manifests.
    pub(super) fn is_part_of_chart(&self, path: &str) -> bool {
        const MARKS: [&str; 4] = [
            "Chart.yaml",
            "kustomization.yaml",
            "kustomization.yml",
            "Kustomization",
        ];
        let mut folder = folder_of(path);
        loop {
            let here = |mark: &&str| {
                let marked = if folder.is_empty() {
                    (*mark).to_owned()
                } else {
                    format!("{folder}/{mark}")
                };
                self.paths.binary_search(&marked).is_ok()
            };
            if MARKS.iter().any(here) {
                return true;
            }
            if folder.is_empty() {
                return false;
            }
            folder = folder_of(folder);
        }
    }
}

fn classify(file: &Arc<str>, text: &Arc<str>) -> Surveyed {
    let Parsed {
        documents,
        findings,
    } = parse(file, text, Resolver::Strict);
    let mut surveyed = Surveyed {
        ours: Vec::new(),
        strange: Vec::new(),
        syntax: findings,
        claimed: Vec::new(),
        manifest: None,
        sops: None,
        text: Arc::clone(text),
        file: Arc::clone(file),
    };
    let encrypted = documents
        .iter()
        .any(|document| holds_sops_block(&document.root));
    let mut claimed_spans = Vec::new();
    for document in documents {
        let index = document.index;
        let span = document.root.span;
        match standing(&document) {
            Standing::Ours(kind) => {
                surveyed.claimed.push(index);
                claimed_spans.push(span);
                match document.root.entry("sops") {
                    Some((key, _)) => surveyed.strange.push(encrypted_kind(file, kind, key)),
                    None => surveyed.ours.push((kind, Arc::new(document))),
                }
            }
            Standing::Strange(finding) => {
                surveyed.claimed.push(index);
                surveyed.strange.push(*finding);
            }
            Standing::Foreign if surveyed.manifest.is_none() => {
                surveyed.manifest = unreached(&document);
            }
            Standing::Foreign => {}
        }
    }
    // What is wrong inside a manifest is said when it is read as one.
    surveyed.syntax.retain(|finding| {
        let start = finding.span.map_or(0, |span| span.start);
        finding.code == codes::YAML_SYNTAX
            || claimed_spans
                .iter()
                .any(|span| (span.start..=span.end).contains(&start))
    });
    if encrypted && surveyed.claimed.is_empty() {
        surveyed.syntax.clear();
        surveyed.sops = Some(SopsFile::read(file, text).map(Arc::new));
    }
    surveyed
}

fn encrypted_kind(file: &Arc<str>, kind: Kind, key: &Node) -> Diagnostic {
    let message = format!("a {} must not be encrypted", kind.name());
    Diagnostic::error(codes::CONFIG_SOPS_IN_KIND, file, message).at(key.span).help(
        "keep the secret in a file of its own and refer to it (secret: secrets/NAME, key: KEY): \
         the MAC of this file would break with the first edit by hand",
    )
}

enum Standing {
    Ours(Kind),
    Strange(Box<Diagnostic>),
    Foreign,
}

fn standing(document: &Document) -> Standing {
    let root = &document.root;
    let file = &document.file;
    let strange = |finding| Standing::Strange(Box::new(finding));
    let kind = root.get("kind").and_then(Node::text);
    let Some((_, version)) = root.entry("apiVersion") else {
        return match misspelt(root) {
            Some(key) => {
                let written = key.as_str().unwrap_or_default();
                let message = format!("`{written}` is not read: the field is `apiVersion`");
                strange(Diagnostic::error(codes::CONFIG_API_VERSION, file, message).at(key.span))
            }
            None => Standing::Foreign,
        };
    };
    let text = version.text().unwrap_or_default();
    if text != API_VERSION {
        let near = text
            .split('/')
            .next()
            .is_some_and(|group| spelling::distance(group, GROUP) <= 2 || group.contains("trueup"));
        if !near {
            return Standing::Foreign;
        }
        let message = format!("`{text}` is not an apiVersion of trueup");
        let finding = Diagnostic::error(codes::CONFIG_API_VERSION, file, message);
        return strange(
            finding
                .at(version.span)
                .help(format!("write `{API_VERSION}`")),
        );
    }
    match kind {
        Some(name) => match Kind::named(name) {
            Some(kind) => Standing::Ours(kind),
            None => {
                let place = root.get("kind").map_or(root.span, |node| node.span);
                let message = format!("`{name}` is not a kind of trueup");
                let mut finding = Diagnostic::error(codes::CONFIG_UNKNOWN_KIND, file, message);
                finding.help = spelling::suggestion(name, Kind::ALL.map(Kind::name));
                strange(finding.at(place))
            }
        },
        None => {
            let message = "the document lacks `kind`";
            let names = Kind::ALL.map(Kind::name).join(", ");
            let finding = Diagnostic::error(codes::CONFIG_MISSING_FIELD, file, message);
            strange(finding.at(version.span).help(format!("one of {names}")))
        }
    }
}

/// A key that is `apiVersion` but for a slip, over one of our kinds or versions.
fn misspelt(root: &Node) -> Option<&Node> {
    root.as_mapping()?.iter().find_map(|(key, value)| {
        let near = spelling::distance(&key.as_str()?.to_lowercase(), "apiversion") <= 2;
        (near && value.text()?.starts_with(GROUP)).then_some(key)
    })
}

/// The warning that is due should nothing point at this document.
fn unreached(document: &Document) -> Option<Diagnostic> {
    let root = &document.root;
    root.get("apiVersion")?.text()?;
    let kind = root.get("kind")?.text()?;
    let name = root.str_at(&["metadata", "name"])?;
    let span = root.entry("kind").map(|(_, kind)| kind.span)?;
    let message = format!("no Application points at this manifest ({kind} {name})");
    let finding = Diagnostic::warning(codes::CONFIG_UNREACHED, &document.file, message);
    Some(
        finding
            .at(span)
            .help("put it below the `source.path` of an Application, or remove it"),
    )
}

/// Whether a list of findings holds an error.
pub(super) fn has_error(findings: &[Diagnostic]) -> bool {
    findings
        .iter()
        .any(|finding| finding.severity == Severity::Error)
}
