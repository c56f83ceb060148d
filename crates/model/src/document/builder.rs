//! Events of the YAML parser to a tree, within a budget.

use std::collections::HashMap;
use std::sync::Arc;

use granit_parser::{Event, StructureStyle};

use super::codes;
use super::diagnostic::Diagnostic;
use super::node::{Node, Style, Value};
use super::parse::{Document, Parsed};
use super::scalar::Resolver;
use super::span::Span;

/// Deeper nesting is refused. Kubernetes' own decoders stop at 10 000, real manifests at 30.
const DEPTH_MAX: usize = 128;
/// Nodes of one file, keys and expanded aliases included. A real 2 MB file has 40 000.
const NODES_MAX: usize = 500_000;
/// Nodes that all aliases of one file may expand to together.
const ALIAS_NODES_MAX: usize = 50_000;

/// A collection whose end has not come yet.
struct Frame {
    node: Node,
    /// The key that waits for its value.
    key: Option<Key>,
    anchor: usize,
    /// The names of a mapping so far, with the place of each.
    names: HashMap<String, Span>,
    /// Values of `<<` keys, joined in when the mapping closes.
    merges: Vec<Node>,
}

enum Key {
    Named(Node, String),
    /// Reported already; its value is dropped.
    Unreadable,
}

/// What has been read of a text so far.
pub(super) struct Builder<'a> {
    pub(super) file: &'a Arc<str>,
    pub(super) resolver: Resolver,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    alias_nodes: usize,
    index: usize,
    flawed: bool,
    pub(super) parsed: Parsed,
}

impl<'a> Builder<'a> {
    pub(super) fn new(file: &'a Arc<str>, resolver: Resolver) -> Self {
        Self {
            file,
            resolver,
            stack: Vec::new(),
            anchors: HashMap::new(),
            nodes: 0,
            alias_nodes: 0,
            index: 0,
            flawed: false,
            parsed: Parsed::default(),
        }
    }

    /// Takes one event in; `None` ends the reading.
    pub(super) fn event(&mut self, event: Event<'_>, span: &granit_parser::Span) -> Option<()> {
        let place = Span::from(*span);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let node = self.scalar(&text, style, tag.as_deref(), span);
                self.anchor(anchor, &node);
                self.place(node)
            }
            Event::SequenceStart(style, anchor, tag) => {
                self.collection_tag(tag.as_deref(), "seq", span);
                self.open(Value::Sequence(Vec::new()), style, anchor, place)
            }
            Event::MappingStart(style, anchor, tag) => {
                self.collection_tag(tag.as_deref(), "map", span);
                self.open(Value::Mapping(Vec::new()), style, anchor, place)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(place),
            Event::Alias(id) => self.alias(id, place),
            Event::DocumentStart(..) => {
                self.anchors.clear();
                self.flawed = false;
                Some(())
            }
            Event::DocumentEnd => {
                self.index += 1;
                Some(())
            }
            _ => Some(()),
        }
    }

    pub(super) fn finding(&mut self, finding: Diagnostic) {
        self.flawed = true;
        self.parsed.findings.push(finding);
    }

    pub(super) fn syntax(&mut self, error: &granit_parser::ScanError, text: &str) {
        let marker = error.marker();
        let start = marker.byte_offset().unwrap_or(0).min(text.len());
        let span = Span {
            start,
            end: start,
            line: marker.line(),
            column: marker.col() + 1,
        };
        let finding = Diagnostic::error(codes::YAML_SYNTAX, self.file, error.info()).at(span);
        let indented_by_tab = text
            .lines()
            .nth(span.line.saturating_sub(1))
            .is_some_and(|line| line.trim_start_matches(' ').starts_with('\t'));
        let finding = if indented_by_tab {
            finding.help("YAML is indented with spaces; replace the tab")
        } else {
            finding
        };
        self.finding(finding);
        self.stack.clear();
    }

    fn budget(&mut self, span: Span, message: String) -> Option<()> {
        self.finding(Diagnostic::error(codes::YAML_BUDGET, self.file, message).at(span));
        None
    }

    fn open(
        &mut self,
        value: Value,
        style: StructureStyle,
        anchor: usize,
        span: Span,
    ) -> Option<()> {
        if self.stack.len() >= DEPTH_MAX {
            return self.budget(span, format!("nested deeper than {DEPTH_MAX} levels"));
        }
        let style = match style {
            StructureStyle::Block => Style::Block,
            StructureStyle::Flow => Style::Flow,
        };
        let node = Node {
            span,
            style,
            value,
            raw: None,
        };
        let (names, merges) = (HashMap::new(), Vec::new());
        self.stack.push(Frame {
            node,
            key: None,
            anchor,
            names,
            merges,
        });
        Some(())
    }

    fn close(&mut self, end: Span) -> Option<()> {
        let Some(mut frame) = self.stack.pop() else {
            return Some(());
        };
        // The end event of a block collection stands at the next token, past blank lines and
        // comments: the last child says better where the collection ends.
        let last = match &frame.node.value {
            Value::Sequence(items) => items.last().map(|item| item.span),
            Value::Mapping(pairs) => pairs
                .last()
                .map(|(key, value)| key.span.to_end_of(value.span)),
            _ => None,
        };
        let end = if frame.node.style == Style::Flow {
            Some(end)
        } else {
            last
        };
        if let Some(end) = end {
            frame.node.span = frame.node.span.to_end_of(end);
        }
        self.merge(&mut frame);
        self.anchor(frame.anchor, &frame.node);
        self.place(frame.node)
    }

    fn anchor(&mut self, anchor: usize, node: &Node) {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
    }

    fn alias(&mut self, id: usize, span: Span) -> Option<()> {
        let Some(target) = self.anchors.get(&id) else {
            let message = "the alias lies inside the node that it names";
            self.finding(Diagnostic::error(codes::YAML_ALIAS, self.file, message).at(span));
            return self.place(Node {
                span,
                style: Style::Plain,
                value: Value::Null,
                raw: None,
            });
        };
        if self.stack.len() + target.depth() > DEPTH_MAX {
            return self.budget(
                span,
                format!("nested deeper than {DEPTH_MAX} levels by aliases"),
            );
        }
        let size = target.count();
        self.alias_nodes += size;
        if self.alias_nodes > ALIAS_NODES_MAX {
            let message = format!("aliases expand to more than {ALIAS_NODES_MAX} nodes");
            return self.budget(span, message);
        }
        let mut node = target.clone();
        node.span = span;
        // `place` counts one.
        self.nodes += size.saturating_sub(1);
        self.place(node)
    }

    /// Puts a finished node where it belongs: value, item, key, or root of a document.
    fn place(&mut self, node: Node) -> Option<()> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return self.budget(
                node.span,
                format!("the file holds more than {NODES_MAX} nodes"),
            );
        }
        let Some(frame) = self.stack.last_mut() else {
            self.root(node);
            return Some(());
        };
        if let Value::Sequence(items) = &mut frame.node.value {
            items.push(node);
            return Some(());
        }
        match frame.key.take() {
            Some(Key::Named(key, name)) => self.pair(key, name, node),
            Some(Key::Unreadable) => {}
            None => self.key(node),
        }
        Some(())
    }

    fn root(&mut self, root: Node) {
        // A comment between two `---` is a document of nothing.
        if root.value == Value::Null && root.span.start == root.span.end && !self.flawed {
            return;
        }
        self.parsed.documents.push(Document {
            file: Arc::clone(self.file),
            index: self.index,
            root,
            flawed: self.flawed,
        });
    }

    fn key(&mut self, mut node: Node) {
        let name = match (&node.value, node.style) {
            (Value::String(name), style) if style != Style::Plain => Some(name.clone()),
            (Value::Sequence(_) | Value::Mapping(_), _) => None,
            _ => node.text().and_then(|text| self.resolver.key(text)),
        };
        let Some(name) = name else {
            let message = format!("a mapping key must be a name, this is {}", node.type_name());
            let finding = Diagnostic::error(codes::YAML_KEY, self.file, message).at(node.span);
            self.finding(finding.help("put the key in quotes"));
            self.hold(Key::Unreadable);
            return;
        };
        let written = node.text().unwrap_or_default().to_owned();
        if written == name {
            node.raw = None;
        } else {
            let message = format!("Kubernetes reads the key `{written}` as `{name}`");
            let help = format!("write \"{written}\" in quotes, or `{name}` if that is meant");
            let finding = Diagnostic::warning(codes::YAML_RETYPED_KEY, self.file, message);
            self.parsed.findings.push(finding.at(node.span).help(help));
            node.raw = Some(written.into());
        }
        node.value = Value::String(name.clone());
        self.hold(Key::Named(node, name));
    }

    fn hold(&mut self, key: Key) {
        if let Some(frame) = self.stack.last_mut() {
            frame.key = Some(key);
        }
    }

    fn pair(&mut self, key: Node, name: String, value: Node) {
        let Some(frame) = self.stack.last_mut() else {
            return;
        };
        if key.style == Style::Plain && name == "<<" && self.resolver != Resolver::GoYamlV3 {
            frame.merges.push(value);
            return;
        }
        let Value::Mapping(pairs) = &mut frame.node.value else {
            return;
        };
        let Some(first) = frame.names.get(&name).copied() else {
            frame.names.insert(name, key.span);
            pairs.push((key, value));
            return;
        };
        let message = format!(
            "the key `{name}` stands twice, first on line {}",
            first.line
        );
        let finding = Diagnostic::error(codes::YAML_DUPLICATE_KEY, self.file, message)
            .at(key.span)
            .label("again here")
            .help("keep one of the two; readers differ on which one would count")
            .related(self.file, first, "first here");
        self.finding(finding);
    }

    /// YAML 1.1 merge keys: the mapping's own keys win over merged ones, earlier merges over
    /// later ones.
    fn merge(&mut self, frame: &mut Frame) {
        for source in std::mem::take(&mut frame.merges) {
            let parts: Vec<&Node> = match &source.value {
                Value::Sequence(items) => items.iter().collect(),
                _ => vec![&source],
            };
            for part in parts {
                let Some(found) = part.as_mapping() else {
                    let message = format!("`<<` merges mappings, this is {}", part.type_name());
                    let finding = Diagnostic::error(codes::YAML_ALIAS, self.file, message);
                    self.finding(finding.at(part.span));
                    continue;
                };
                let Value::Mapping(pairs) = &mut frame.node.value else {
                    continue;
                };
                for (key, value) in found {
                    let name = key.as_str().unwrap_or_default();
                    if !frame.names.contains_key(name) {
                        frame.names.insert(name.to_owned(), key.span);
                        pairs.push((key.clone(), value.clone()));
                    }
                }
            }
        }
    }
}
