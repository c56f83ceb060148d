//! What a schema says of a document, in words of ours and at the exact place.

use std::sync::Arc;

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind as Fault};
use serde_json::Value as Json;
use trueup_model::document::{Code, Diagnostic, Document, Node, Span, Style, Value, codes};

use super::kind::Kind;
use super::spelling;

/// Holds a document against the schema of its kind.
pub(super) fn check(kind: Kind, document: &Document, json: &Json) -> Vec<Diagnostic> {
    let Some((schema, validator)) = kind.validator() else {
        let message = format!("the schema of {} cannot be compiled", kind.name());
        return vec![Diagnostic::error(
            codes::CONFIG_TYPE,
            &document.file,
            message,
        )];
    };
    let mut check = Check {
        file: &document.file,
        root: &document.root,
        schema,
        found: Vec::new(),
    };
    let errors: Vec<ValidationError<'_>> = validator.iter_errors(json).collect();
    check.all(&errors);
    check.found
}

/// A document under examination.
pub(super) struct Check<'a> {
    file: &'a Arc<str>,
    pub(super) root: &'a Node,
    schema: &'a Json,
    found: Vec<Diagnostic>,
}

impl<'a> Check<'a> {
    pub(super) fn all(&mut self, errors: &[ValidationError<'_>]) {
        // `adress: x` is one slip, not an unknown and a missing field.
        let mut meant: Vec<(String, String)> = Vec::new();
        for error in errors {
            if let Fault::AdditionalProperties { unexpected } = error.kind() {
                let known = self.fields(error);
                for name in unexpected {
                    if let Some(near) = spelling::nearest(name, known.iter().copied()) {
                        meant.push((error.instance_path().to_string(), near.to_owned()));
                    }
                }
            }
        }
        for error in errors {
            if let Fault::Required { property } = error.kind() {
                let name = property.as_str().unwrap_or_default().to_owned();
                if meant.contains(&(error.instance_path().to_string(), name)) {
                    continue;
                }
            }
            self.one(error);
        }
    }

    fn one(&mut self, error: &ValidationError<'_>) {
        match error.kind() {
            Fault::AdditionalProperties { unexpected } => {
                for name in unexpected {
                    self.unknown(error, name);
                }
            }
            Fault::Required { property } => self.missing(error, property),
            Fault::Type { kind } => self.mistyped(error, &types(kind)),
            Fault::Enum { options } => {
                let options = options.as_array().cloned().unwrap_or_default();
                self.not_one_of(error, &options.iter().collect::<Vec<_>>());
            }
            Fault::Constant { expected_value } => self.not_one_of(error, &[expected_value]),
            Fault::OneOfNotValid { context } | Fault::AnyOf { context } => {
                self.branches(error, context);
            }
            Fault::OneOfMultipleValid { .. } => {
                self.value(
                    error,
                    codes::CONFIG_ONE_OF,
                    "takes exactly one of its forms".into(),
                );
            }
            Fault::Pattern { pattern } => self.misshapen(error, pattern),
            Fault::PropertyNames { error } => self.one(error),
            other => {
                let words = bound(other);
                self.value(error, codes::CONFIG_VALUE, words);
            }
        }
    }

    /// The node that the error is about, with the place to mark.
    pub(super) fn place(&self, error: &ValidationError<'_>) -> (Option<&Node>, Span) {
        let pointer = error.instance_path().to_string();
        match self.root.at_pointer(&pointer) {
            Some(found) => (Some(found.node), found.node.span),
            None => (None, self.root.nearest(&pointer).node.span),
        }
    }

    /// The place of the mapping that the error is about: its key, or the first key of the document.
    pub(super) fn holder(&self, error: &ValidationError<'_>) -> Span {
        let found = self.root.nearest(&error.instance_path().to_string());
        let first = || {
            found
                .node
                .as_mapping()
                .and_then(|pairs| pairs.first())
                .map(|(key, _)| key)
        };
        found
            .key
            .or_else(first)
            .map_or(found.node.span, |key| key.span)
    }

    pub(super) fn report(&mut self, code: Code, span: Span, message: String, help: Option<String>) {
        let mut finding = Diagnostic::error(code, self.file, message).at(span);
        finding.help = help;
        self.found.push(finding);
    }

    pub(super) fn value(&mut self, error: &ValidationError<'_>, code: Code, words: String) {
        let (_, span) = self.place(error);
        self.report(code, span, format!("`{}` {words}", dotted(error)), None);
    }

    fn unknown(&mut self, error: &ValidationError<'_>, name: &str) {
        let pointer = error.instance_path().to_string();
        let holder = self.root.at_pointer(&pointer).map(|found| found.node);
        let key = holder
            .and_then(|node| node.entry(name))
            .map(|(key, _)| key.span);
        let span = key.unwrap_or_else(|| self.place(error).1);
        let at = dotted(error);
        let within = if at.is_empty() {
            "the document".to_owned()
        } else {
            format!("`{at}`")
        };
        let help = spelling::suggestion(name, self.fields(error));
        let message = format!("{within} has no field `{name}`");
        self.report(codes::CONFIG_UNKNOWN_FIELD, span, message, help);
    }

    fn missing(&mut self, error: &ValidationError<'_>, property: &Json) {
        let name = property.as_str().unwrap_or_default();
        let at = dotted(error);
        let within = if at.is_empty() {
            "the document".to_owned()
        } else {
            format!("`{at}`")
        };
        let about = self
            .beside(error, &format!("properties/{name}"))
            .and_then(|field| self.described(field))
            .map(|about| format!("{name}: {about}"));
        let span = self.holder(error);
        let message = format!("{within} lacks `{name}`");
        self.report(codes::CONFIG_MISSING_FIELD, span, message, about);
    }

    pub(super) fn mistyped(&mut self, error: &ValidationError<'_>, wanted: &[String]) {
        let (node, span) = self.place(error);
        let found = node.map_or("something else", Node::type_name);
        let help = node.and_then(|node| quoting(node, wanted));
        let wanted: Vec<&str> = wanted.iter().map(|word| article(word)).collect();
        let message = format!(
            "`{}` must be {}, this is {found}",
            dotted(error),
            wanted.join(" or ")
        );
        self.report(codes::CONFIG_TYPE, span, message, help);
    }

    pub(super) fn not_one_of(&mut self, error: &ValidationError<'_>, options: &[&Json]) {
        let words: Vec<&str> = options
            .iter()
            .filter_map(|option| option.as_str())
            .collect();
        let (node, span) = self.place(error);
        let written = node.and_then(Node::text).unwrap_or_default();
        let near = spelling::nearest(written, words.iter().copied());
        let help = near.map(|near| format!("did you mean `{near}`?"));
        let listed: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
        let message = format!("`{}` must be {}", dotted(error), listed.join(" or "));
        self.report(codes::CONFIG_VALUE, span, message, help);
    }

    fn misshapen(&mut self, error: &ValidationError<'_>, pattern: &str) {
        let example = self
            .beside(error, "examples/0")
            .and_then(Json::as_str)
            .map(|example| format!("for example `{example}`"));
        let about = self
            .beside(error, "description")
            .and_then(Json::as_str)
            .map(str::to_owned);
        let message = format!("`{}` does not match `{pattern}`", dotted(error));
        let (_, span) = self.place(error);
        self.report(codes::CONFIG_VALUE, span, message, example.or(about));
    }

    /// The fields that the schema knows where an unknown one was found.
    fn fields(&self, error: &ValidationError<'_>) -> Vec<&'a str> {
        let fields = self.beside(error, "properties").and_then(Json::as_object);
        fields
            .map(|fields| fields.keys().map(String::as_str).collect())
            .unwrap_or_default()
    }

    /// The part of the schema beside the keyword that failed.
    fn beside(&self, error: &ValidationError<'_>, relative: &str) -> Option<&'a Json> {
        let path = error.schema_path().to_string();
        let (parent, _) = path.rsplit_once('/')?;
        self.at(&format!("{parent}/{relative}"))
    }

    /// Follows a pointer into the schema, through references.
    pub(super) fn at(&self, pointer: &str) -> Option<&'a Json> {
        let mut found = self.schema;
        for token in pointer.split('/').skip(1) {
            if token == "$ref" {
                found = self.follow(found);
                continue;
            }
            let token = token.replace("~1", "/").replace("~0", "~");
            found = match found {
                Json::Array(items) => items.get(token.parse::<usize>().ok()?)?,
                other => other.get(&token)?,
            };
        }
        Some(found)
    }

    pub(super) fn follow(&self, schema: &'a Json) -> &'a Json {
        let target = schema.get("$ref").and_then(Json::as_str);
        target
            .and_then(|target| self.schema.pointer(target.strip_prefix('#')?))
            .unwrap_or(schema)
    }

    fn described(&self, field: &Json) -> Option<String> {
        let about = field
            .get("description")
            .or_else(|| self.follow(field).get("description"))?;
        Some(about.as_str()?.replace('\n', " "))
    }
}

/// `spec.taints[0].key`.
pub(super) fn dotted(error: &ValidationError<'_>) -> String {
    let pointer = error.instance_path().to_string();
    pointer
        .split('/')
        .skip(1)
        .fold(String::new(), |path, token| {
            let token = token.replace("~1", "/").replace("~0", "~");
            match token.parse::<usize>() {
                Ok(index) => format!("{path}[{index}]"),
                Err(_) if path.is_empty() => token,
                Err(_) => format!("{path}.{token}"),
            }
        })
}

pub(super) fn types(kind: &TypeKind) -> Vec<String> {
    match kind {
        TypeKind::Single(one) => vec![one.to_string()],
        TypeKind::Multiple(set) => set
            .iter()
            .map(|one| one.to_string())
            .filter(|word| word != "null")
            .collect(),
    }
}

fn article(json_type: &str) -> &str {
    match json_type {
        "string" => "a string",
        "integer" => "an integer",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "a mapping",
        other => other,
    }
}

/// A plain scalar where text is wanted needs quotes; a quoted one where it is not, none.
fn quoting(node: &Node, wanted: &[String]) -> Option<String> {
    let text = node.text()?;
    let wants = |name: &str| wanted.iter().any(|word| word == name);
    match (&node.value, node.style) {
        (Value::Bool(_) | Value::Int(_) | Value::UInt(_) | Value::Float(_), _)
            if wants("string") =>
        {
            Some(format!("put it in quotes: \"{text}\""))
        }
        (Value::String(_), Style::Plain) if wants("boolean") => {
            let meant = match text.to_ascii_lowercase().as_str() {
                "yes" | "on" | "y" | "true" => "true",
                "no" | "off" | "n" | "false" => "false",
                _ => return None,
            };
            Some(format!("write `{meant}`"))
        }
        (Value::String(_), Style::Plain) => None,
        (Value::String(_), _) if !wants("string") => Some("remove the quotes".to_owned()),
        _ => None,
    }
}

fn bound(fault: &Fault) -> String {
    match fault {
        Fault::MinLength { limit: 1 } => "must not be empty".to_owned(),
        Fault::MinItems { limit: 1 } => "must hold at least one item".to_owned(),
        Fault::MinLength { limit } => format!("must have at least {limit} characters"),
        Fault::MaxLength { limit } => format!("must have at most {limit} characters"),
        Fault::MinItems { limit } => format!("must hold at least {limit} items"),
        Fault::MaxItems { limit } => format!("must hold at most {limit} items"),
        Fault::Minimum { limit } => format!("must be at least {limit}"),
        Fault::Maximum { limit } => format!("must be at most {limit}"),
        Fault::UniqueItems => "must not hold an item twice".to_owned(),
        Fault::Format { format } => format!("is not a valid {format}"),
        other => format!("breaks the schema's rule `{}`", other.keyword()),
    }
}
