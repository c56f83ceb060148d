//! One encrypted file: its documents, its block, its leaves.

use std::sync::Arc;

use super::encrypted::EncryptedValue;
use super::metadata::{self, Metadata};
use crate::document::{Diagnostic, Document, Node, Resolver, Severity, Value, codes, parse};

/// The key of the metadata block.
const BLOCK: &str = "sops";

/// A YAML or JSON file that sops encrypted.
#[derive(Debug, Clone)]
pub struct SopsFile {
    /// The file, relative to the tree's root.
    pub file: Arc<str>,
    /// Its documents, read with go-yaml v3's meaning, blocks included.
    pub documents: Vec<Document>,
    /// The block of the first document; sops writes the same one into each and reads no other.
    pub metadata: Metadata,
    /// Findings that do not keep the file from being used.
    pub warnings: Vec<Diagnostic>,
}

/// One scalar of an encrypted file. Comments and nulls are none.
#[derive(Debug, Clone)]
pub struct Leaf<'a> {
    /// Which document it is in.
    pub document: usize,
    /// The mapping keys above it. List positions are not part of it: all items of a list share
    /// one path, which is why only the MAC notices when they change places.
    pub path: Vec<&'a str>,
    /// The scalar.
    pub node: &'a Node,
    /// Whether the file's rule says that it is encrypted.
    pub encrypted: bool,
}

impl Leaf<'_> {
    /// What the ciphertext is bound to: the path with a colon after every key.
    #[must_use]
    pub fn additional_data(&self) -> String {
        format!("{}:", self.path.join(":"))
    }
}

/// Whether a document was encrypted by sops: a `sops` mapping at the top with the marks of one.
#[must_use]
pub fn holds_sops_block(root: &Node) -> bool {
    root.get(BLOCK).is_some_and(|block| {
        block.as_mapping().is_some()
            && (block.get("mac").is_some() || block.get("lastmodified").is_some())
    })
}

/// Whether sops would read a file of this name as YAML or JSON.
#[must_use]
pub fn is_sops_path(path: &str) -> bool {
    [".yaml", ".yml", ".json"]
        .iter()
        .any(|ending| path.ends_with(ending))
}

impl SopsFile {
    /// Reads the structure of an encrypted file.
    ///
    /// # Errors
    /// Everything that is wrong with it, when it cannot be used.
    pub fn read(file: &Arc<str>, text: &str) -> Result<Self, Vec<Diagnostic>> {
        if !is_sops_path(file) {
            let message = "sops reads this name as dotenv, ini or binary, which is not supported";
            let finding = Diagnostic::error(codes::SOPS_FORMAT, file, message);
            return Err(vec![
                finding.help("keep secrets in .yaml, .yml or .json files"),
            ]);
        }
        let parsed = parse(file, text, Resolver::GoYamlV3);
        let mut findings = parsed.findings;
        let Some(first) = parsed.documents.first() else {
            if findings.is_empty() {
                findings.push(Diagnostic::error(
                    codes::SOPS_METADATA,
                    file,
                    "the file is empty",
                ));
            }
            return Err(findings);
        };
        let Some((key, block)) = first.root.entry(BLOCK) else {
            let message = "the file is not encrypted: it has no `sops` block";
            findings.push(
                Diagnostic::error(codes::SOPS_METADATA, file, message)
                    .at(first.root.span)
                    .concealed()
                    .help("encrypt it: sops encrypt --in-place FILE"),
            );
            return Err(findings);
        };
        match metadata::read(file, key, block) {
            Ok(mut metadata) if findings.iter().all(|f| f.severity == Severity::Warning) => {
                findings.append(&mut metadata.warnings);
                let mut file = Self {
                    file: Arc::clone(file),
                    documents: parsed.documents,
                    metadata,
                    warnings: findings,
                };
                let found = file.check();
                if found.iter().any(|f| f.severity == Severity::Error) {
                    return Err(found);
                }
                file.warnings.extend(found);
                Ok(file)
            }
            Ok(_) => Err(findings),
            Err(more) => {
                findings.extend(more);
                Err(findings)
            }
        }
    }

    /// All leaves in document order, the block left out.
    #[must_use]
    pub fn leaves(&self) -> Vec<Leaf<'_>> {
        let mut leaves = Vec::new();
        for (index, document) in self.documents.iter().enumerate() {
            let pairs = document.root.as_mapping().unwrap_or_default();
            for (key, value) in pairs.iter().filter(|(key, _)| key.as_str() != Some(BLOCK)) {
                let mut path = vec![key.as_str().unwrap_or_default()];
                self.descend(index, &mut path, value, &mut leaves);
            }
        }
        leaves
    }

    fn descend<'a>(
        &'a self,
        document: usize,
        path: &mut Vec<&'a str>,
        node: &'a Node,
        leaves: &mut Vec<Leaf<'a>>,
    ) {
        match &node.value {
            Value::Null => {}
            Value::Sequence(items) => {
                for item in items {
                    self.descend(document, path, item, leaves);
                }
            }
            Value::Mapping(pairs) => {
                for (key, value) in pairs {
                    path.push(key.as_str().unwrap_or_default());
                    self.descend(document, path, value, leaves);
                    path.pop();
                }
            }
            _ => {
                let encrypted = self.metadata.selector.selects(path);
                leaves.push(Leaf {
                    document,
                    path: path.clone(),
                    node,
                    encrypted,
                });
            }
        }
    }

    /// What needs no key to be seen.
    fn check(&self) -> Vec<Diagnostic> {
        let mut findings: Vec<Diagnostic> = self
            .leaves()
            .iter()
            .filter_map(|leaf| self.check_leaf(leaf))
            .collect();
        for document in &self.documents {
            let top = &document.root;
            if top.as_mapping().is_none() && top.value != Value::Null {
                let message = format!("sops encrypts mappings only, this is {}", top.type_name());
                let finding = Diagnostic::error(codes::SOPS_FORMAT, &self.file, message);
                findings.push(finding.at(top.span).concealed());
            }
        }
        if let Some(mac) = &self.metadata.mac
            && let Err(why) = EncryptedValue::parse(mac)
        {
            let message = format!("the `mac` is not well formed: {why}");
            let finding = Diagnostic::error(codes::SOPS_VALUE, &self.file, message);
            findings.push(finding.at(self.metadata.span));
        }
        findings
    }

    fn check_leaf(&self, leaf: &Leaf<'_>) -> Option<Diagnostic> {
        let path = leaf.path.join(".");
        let error = |code, message: String| {
            Some(Diagnostic::error(code, &self.file, message).at(leaf.node.span))
        };
        if matches!(leaf.node.value, Value::UInt(_)) {
            let message = format!("`{path}` is a number that sops cannot hold");
            return error(codes::SOPS_VALUE, message)
                .map(|f| f.concealed().help("put the number in quotes"));
        }
        if leaf.path.contains(&"<<") {
            let message = format!("`{path}` is a merge key, which sops does not resolve");
            return error(codes::SOPS_UNSUPPORTED, message).map(Diagnostic::concealed);
        }
        let text = leaf.node.as_str();
        match text {
            // An empty string stays empty under encryption.
            Some("") => None,
            Some(text) if EncryptedValue::claims(text) && !leaf.encrypted => {
                let message = format!(
                    "`{path}` looks encrypted, but the rule in the `sops` block does not cover it"
                );
                error(codes::SOPS_UNCOVERED, message)
                    .map(|f| f.help("it would be used as it stands; encrypt the file again"))
            }
            Some(text) if leaf.encrypted && EncryptedValue::claims(text) => {
                let why = EncryptedValue::parse(text).err()?;
                error(
                    codes::SOPS_VALUE,
                    format!("`{path}` is not well formed: {why}"),
                )
            }
            _ if leaf.encrypted => {
                let message = format!("`{path}` should be encrypted and stands in clear text");
                error(codes::SOPS_PLAINTEXT, message).map(|finding| {
                    finding
                        .concealed()
                        .help("consider the value leaked: change it, then encrypt the file again")
                })
            }
            _ => None,
        }
    }
}
