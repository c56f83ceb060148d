//! What an object must look like before the API server is asked.

use trueup_model::document::{Code, Diagnostic, Document, Node, Span, Style, Value, codes};

/// One object under examination.
pub(super) struct Shape<'a> {
    pub document: &'a Document,
    pub root: &'a Node,
    pub findings: &'a mut Vec<Diagnostic>,
}

impl Shape<'_> {
    fn report(&mut self, code: Code, span: Span, message: String) {
        self.findings
            .push(Diagnostic::error(code, &self.document.file, message).at(span));
    }

    /// Text that every manifest must have.
    pub(super) fn text(&mut self, path: &[&str]) -> Option<String> {
        let dotted = path.join(".");
        let pointer = format!("/{}", path.join("/"));
        let Some(found) = self.root.at_pointer(&pointer) else {
            let near = self.root.nearest(&pointer);
            let first = near
                .node
                .as_mapping()
                .and_then(|pairs| pairs.first())
                .map(|(key, _)| key);
            let span = near.key.or(first).map_or(near.node.span, |key| key.span);
            self.report(
                codes::MANIFEST_SHAPE,
                span,
                format!("the manifest lacks `{dotted}`"),
            );
            return None;
        };
        match found.node.as_str() {
            Some(text) if !text.is_empty() => Some(text.to_owned()),
            _ => {
                let what = found.node.type_name();
                let message = format!("`{dotted}` must be text, this is {what}");
                self.report(codes::MANIFEST_SHAPE, found.node.span, message);
                None
            }
        }
    }

    /// Base64 hides nothing: whoever reads the repository reads the values.
    pub(super) fn plain_secret(&mut self) {
        if self.root.str_at(&["kind"]) != Some("Secret") {
            return;
        }
        let filled = ["stringData", "data"].into_iter().find_map(|field| {
            let (key, values) = self.root.entry(field)?;
            values
                .as_mapping()
                .is_some_and(|values| !values.is_empty())
                .then_some(key.span)
        });
        if let Some(span) = filled {
            let message = "the values of this Secret stand in clear text";
            self.findings.push(
                Diagnostic::warning(codes::MANIFEST_PLAIN_SECRET, &self.document.file, message)
                    .at(span)
                    .help("encrypt the file: sops encrypt --in-place FILE; then change the values, which are known now"),
            );
        }
    }

    /// Fields that Kubernetes takes as text only, and where unquoted words are retyped unseen.
    pub(super) fn texts_only(&mut self) {
        let kind = self.root.str_at(&["kind"]).unwrap_or_default();
        let mut maps = vec![
            &["metadata", "labels"][..],
            &["metadata", "annotations"][..],
        ];
        match kind {
            "ConfigMap" => maps.push(&["data"]),
            "Secret" => maps.extend([&["stringData"][..], &["data"][..]]),
            _ => {}
        }
        for path in maps {
            let found = path.iter().try_fold(self.root, |node, key| node.get(key));
            for (key, value) in found.and_then(Node::as_mapping).unwrap_or_default() {
                let retyped = matches!(
                    value.value,
                    Value::Bool(_) | Value::Int(_) | Value::UInt(_) | Value::Float(_)
                );
                if !retyped || value.style != Style::Plain {
                    continue;
                }
                let name = format!("{}.{}", path.join("."), key.as_str().unwrap_or_default());
                let message = format!("`{name}` must be text, this is {}", value.type_name());
                let text = value.text().unwrap_or_default();
                let mut finding =
                    Diagnostic::error(codes::MANIFEST_NOT_TEXT, &self.document.file, message)
                        .at(value.span);
                if kind == "Secret" {
                    finding = finding.concealed().help("put it in quotes");
                } else {
                    finding = finding.help(format!("put it in quotes: \"{text}\""));
                }
                self.findings.push(finding);
            }
        }
    }
}
