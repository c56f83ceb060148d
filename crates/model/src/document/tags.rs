//! Scalars and tags on their way into the tree.

use granit_parser::{ScalarStyle, Tag};

use super::builder::Builder;
use super::codes;
use super::diagnostic::Diagnostic;
use super::node::{Node, Style, Value};
use super::scalar::Resolver;
use super::span::Span;

impl Builder<'_> {
    /// A scalar with its meaning.
    pub(super) fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        tag: Option<&Tag>,
        span: &granit_parser::Span,
    ) -> Node {
        let style = match style {
            ScalarStyle::Plain => Style::Plain,
            ScalarStyle::SingleQuoted => Style::SingleQuoted,
            ScalarStyle::DoubleQuoted => Style::DoubleQuoted,
            ScalarStyle::Literal => Style::Literal,
            ScalarStyle::Folded => Style::Folded,
        };
        let place = Span::from(*span);
        let value = match tag {
            Some(tag) => self.tagged(tag, text, span),
            None if style == Style::Plain => self.resolver.resolve(text),
            None => Value::String(text.to_owned()),
        };
        if let Value::Float(number) = value
            && !number.is_finite()
            && self.resolver == Resolver::Kubernetes
        {
            let message = format!("`{text}` is a number that JSON cannot carry");
            let finding = Diagnostic::error(codes::YAML_NOT_JSON, self.file, message).at(place);
            self.finding(finding.help("put it in quotes if text is meant"));
        }
        let raw = match &value {
            Value::String(same) if same == text => None,
            _ => Some(text.into()),
        };
        // A tagged scalar no longer depends on the resolver, as if it were quoted.
        let style = if tag.is_some() && style == Style::Plain {
            Style::DoubleQuoted
        } else {
            style
        };
        Node {
            span: place,
            style,
            value,
            raw,
        }
    }

    fn tagged(&mut self, tag: &Tag, text: &str, span: &granit_parser::Span) -> Value {
        let place = span
            .tag_span()
            .map_or_else(|| Span::from(*span), Span::from);
        let string = Value::String(text.to_owned());
        let suffix = match tag.core_suffix() {
            Some(suffix) => suffix,
            None if tag.original() == "!" => return string,
            None => {
                self.unknown_tag(tag, place);
                return string;
            }
        };
        let value = self.resolver.resolve(text);
        let fits = match (suffix, &value) {
            ("str", _) => return string,
            ("int", Value::Int(_) | Value::UInt(_))
            | ("bool", Value::Bool(_))
            | ("null", Value::Null)
            | ("float", Value::Float(_) | Value::Int(_) | Value::UInt(_)) => true,
            _ => false,
        };
        if !fits {
            let message = format!("`{text}` is not what the tag `{}` claims", tag.original());
            let finding = Diagnostic::error(codes::YAML_TAG_MISMATCH, self.file, message);
            self.finding(finding.at(place).help("remove the tag"));
        }
        value
    }

    /// A tag on a collection: only the one that says what it is anyway.
    pub(super) fn collection_tag(
        &mut self,
        tag: Option<&Tag>,
        expected: &str,
        span: &granit_parser::Span,
    ) {
        let Some(tag) = tag else { return };
        if tag.core_suffix() != Some(expected) && tag.original() != "!" {
            let place = span
                .tag_span()
                .map_or_else(|| Span::from(*span), Span::from);
            self.unknown_tag(tag, place);
        }
    }

    fn unknown_tag(&mut self, tag: &Tag, place: Span) {
        let message = format!("the tag `{}` is not known here", tag.original());
        let finding = Diagnostic::error(codes::YAML_UNKNOWN_TAG, self.file, message).at(place);
        self.finding(finding.help("remove the tag; Kubernetes would silently ignore it"));
    }
}
