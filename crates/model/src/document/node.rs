//! The tree: ordered, spanned, resolved. It knows nothing of files, kinds or rules.

use super::span::Span;

/// How a node was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A scalar without quotes; the only style whose type depends on the resolver.
    Plain,
    /// `'…'`
    SingleQuoted,
    /// `"…"`
    DoubleQuoted,
    /// `|`
    Literal,
    /// `>`
    Folded,
    /// An indented mapping or sequence.
    Block,
    /// `{…}` or `[…]`, and everything in a JSON file.
    Flow,
}

/// A node's meaning under the resolver that the file was read with.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `null`, `~` or nothing at all.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer that fits 64 signed bits.
    Int(i64),
    /// An integer above `i64::MAX`.
    UInt(u64),
    /// Any other number; finite unless read with [`super::Resolver::GoYamlV3`].
    Float(f64),
    /// An unquoted time stamp in RFC 3339 form; only [`super::Resolver::GoYamlV3`] makes these.
    Timestamp(String),
    /// Text.
    String(String),
    /// A list.
    Sequence(Vec<Node>),
    /// Key and value pairs in file order. Every key is a [`Value::String`]: what the resolver's
    /// model program makes of the key in JSON; its source text is in [`Node::raw`].
    Mapping(Vec<(Node, Node)>),
}

/// One value with its place in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where the value stands; for an alias, where it is used.
    pub span: Span,
    /// How it was written.
    pub style: Style,
    /// What it means.
    pub value: Value,
    /// The source text of a scalar whose value is not that very text (`1.30`, `yes`, `0644`).
    pub raw: Option<Box<str>>,
}

/// What a pointer leads to: the node, and the key that holds it unless it is an item or the root.
#[derive(Debug, Clone, Copy)]
pub struct Located<'a> {
    /// The value.
    pub node: &'a Node,
    /// The mapping key above it.
    pub key: Option<&'a Node>,
}

impl Node {
    /// The text of a string scalar.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The scalar as it was written, whatever its type.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.raw.as_deref().or_else(|| self.as_str())
    }

    /// The pairs of a mapping.
    #[must_use]
    pub fn as_mapping(&self) -> Option<&[(Self, Self)]> {
        match &self.value {
            Value::Mapping(pairs) => Some(pairs),
            _ => None,
        }
    }

    /// The items of a sequence.
    #[must_use]
    pub fn as_sequence(&self) -> Option<&[Self]> {
        match &self.value {
            Value::Sequence(items) => Some(items),
            _ => None,
        }
    }

    /// The value under `key` of a mapping.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|(_, value)| value)
    }

    /// Key and value under `key` of a mapping.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<(&Self, &Self)> {
        self.as_mapping()?
            .iter()
            .find(|(k, _)| k.as_str() == Some(key))
            .map(|(k, v)| (k, v))
    }

    /// The string found by following `path` through mappings.
    #[must_use]
    pub fn str_at(&self, path: &[&str]) -> Option<&str> {
        path.iter()
            .try_fold(self, |node, key| node.get(key))?
            .as_str()
    }

    /// Follows an RFC 6901 JSON pointer (`/spec/nodes/0/name`, `""` for the node itself).
    #[must_use]
    pub fn at_pointer(&self, pointer: &str) -> Option<Located<'_>> {
        let mut found = Located {
            node: self,
            key: None,
        };
        if pointer.is_empty() {
            return Some(found);
        }
        for token in pointer.strip_prefix('/')?.split('/') {
            let token = token.replace("~1", "/").replace("~0", "~");
            found = match &found.node.value {
                Value::Mapping(_) => {
                    let (key, node) = found.node.entry(&token)?;
                    Located {
                        node,
                        key: Some(key),
                    }
                }
                Value::Sequence(items) => Located {
                    node: items.get(token.parse::<usize>().ok()?)?,
                    key: None,
                },
                _ => return None,
            };
        }
        Some(found)
    }

    /// The deepest node on the way to `pointer` that exists, for findings about missing fields.
    #[must_use]
    pub fn nearest(&self, pointer: &str) -> Located<'_> {
        let mut pointer = pointer;
        loop {
            if let Some(found) = self.at_pointer(pointer) {
                return found;
            }
            match pointer.rfind('/') {
                Some(cut) => pointer = pointer.get(..cut).unwrap_or(""),
                None => {
                    return Located {
                        node: self,
                        key: None,
                    };
                }
            }
        }
    }

    /// The same data as JSON. Numbers that JSON cannot say (`.inf`) become their source text.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(flag) => Json::Bool(*flag),
            Value::Int(number) => Json::from(*number),
            Value::UInt(number) => Json::from(*number),
            Value::Float(number) => match serde_json::Number::from_f64(*number) {
                Some(number) => Json::Number(number),
                None => Json::String(self.text().unwrap_or_default().to_owned()),
            },
            Value::Timestamp(text) | Value::String(text) => Json::String(text.clone()),
            Value::Sequence(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            Value::Mapping(pairs) => Json::Object(
                pairs
                    .iter()
                    .filter_map(|(key, value)| Some((key.as_str()?.to_owned(), value.to_json())))
                    .collect(),
            ),
        }
    }

    /// What the value is, in the words of a message: "a string", "a list".
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::UInt(_) => "an integer",
            Value::Float(_) => "a number",
            Value::Timestamp(_) => "a time stamp",
            Value::String(_) => "a string",
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping",
        }
    }

    /// How many levels of collections begin here; 0 for a scalar.
    #[must_use]
    pub fn depth(&self) -> usize {
        match &self.value {
            Value::Sequence(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Value::Mapping(pairs) => {
                let deepest = pairs
                    .iter()
                    .map(|(key, value)| key.depth().max(value.depth()))
                    .max();
                1 + deepest.unwrap_or(0)
            }
            _ => 0,
        }
    }

    /// How many nodes hang here, itself included; keys count.
    #[must_use]
    pub fn count(&self) -> usize {
        match &self.value {
            Value::Sequence(items) => 1 + items.iter().map(Self::count).sum::<usize>(),
            Value::Mapping(pairs) => {
                1 + pairs
                    .iter()
                    .map(|(key, value)| key.count() + value.count())
                    .sum::<usize>()
            }
            _ => 1,
        }
    }
}

/// Quotes one token of a JSON pointer.
#[must_use]
pub fn pointer_token(token: &str) -> String {
    token.replace('~', "~0").replace('/', "~1")
}
