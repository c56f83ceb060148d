//! Values that may have one of several forms: which one was meant, and what is wrong with it.

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind as Fault;
use serde_json::Value as Json;
use trueup_model::document::{Node, Value, codes};

use super::check::{Check, dotted, types};
use super::spelling;

impl<'a> Check<'a> {
    /// None of several forms fits: speak of the one that was meant.
    pub(super) fn branches(
        &mut self,
        error: &ValidationError<'_>,
        context: &[Vec<ValidationError<'static>>],
    ) {
        let at = error.instance_path().to_string();
        let constants: Vec<&Json> = context
            .iter()
            .flatten()
            .filter_map(|error| match error.kind() {
                Fault::Constant { expected_value } => Some(&**expected_value),
                _ => None,
            })
            .collect();
        if !constants.is_empty() && constants.len() == context.len() {
            return self.not_one_of(error, &constants);
        }
        let here = |error: &ValidationError<'static>| error.instance_path().to_string() == at;
        // An optional field is "its form, or null": null was not meant.
        let is_null = |branch: &Vec<ValidationError<'static>>| {
            branch
                .iter()
                .any(|e| matches!(e.kind(), Fault::Type { kind } if types(kind) == ["null"]))
        };
        let forms: Vec<_> = context.iter().filter(|branch| !is_null(branch)).collect();
        if let ([only], true) = (forms.as_slice(), context.len() > 1) {
            return self.all(only);
        }
        let tag = |branch: &Vec<ValidationError<'static>>| {
            branch.iter().any(|error| {
                here(error)
                    && matches!(
                        error.kind(),
                        Fault::Required { .. } | Fault::AdditionalProperties { .. }
                    )
            })
        };
        let tags = self.tags(error);
        if !tags.is_empty() {
            return match forms.iter().find(|branch| !tag(branch)) {
                Some(branch) if self.given(&at) == 1 => self.all(branch),
                _ => self.exactly_one(error, &tags),
            };
        }
        let mistyped: Vec<String> = forms
            .iter()
            .flat_map(|branch| branch.iter())
            .filter_map(|error| match error.kind() {
                Fault::Type { kind } if here(error) => Some(types(kind)),
                _ => None,
            })
            .flatten()
            .collect();
        if mistyped.len() == forms.len() {
            return self.mistyped(error, &mistyped);
        }
        let fits = |branch: &&&Vec<ValidationError<'static>>| {
            !branch
                .iter()
                .any(|e| here(e) && matches!(e.kind(), Fault::Type { .. }))
        };
        match forms.iter().find(fits) {
            Some(branch) => self.all(branch),
            None => self.value(
                error,
                codes::CONFIG_VALUE,
                "has none of the forms it may have".into(),
            ),
        }
    }

    /// How many fields stand at a place.
    fn given(&self, pointer: &str) -> usize {
        let found = self.root.at_pointer(pointer);
        found
            .and_then(|found| found.node.as_mapping())
            .map_or(0, <[_]>::len)
    }

    /// The fields of a one-of: those that its forms require, one each.
    fn tags(&self, error: &ValidationError<'_>) -> Vec<&'a str> {
        let forms = self
            .at(&error.schema_path().to_string())
            .and_then(Json::as_array);
        let required = |form| self.follow(form).get("required")?.get(0)?.as_str();
        forms
            .map(|forms| forms.iter().filter_map(required).collect())
            .unwrap_or_default()
    }

    fn exactly_one(&mut self, error: &ValidationError<'_>, tags: &[&str]) {
        let node = self.place(error).0;
        let keys: Vec<_> = node
            .and_then(Node::as_mapping)
            .unwrap_or_default()
            .iter()
            .collect();
        let listed: Vec<String> = tags.iter().map(|tag| format!("`{tag}`")).collect();
        let words = listed.join(" or ");
        let strange = keys
            .iter()
            .find(|(key, _)| !key.as_str().is_some_and(|k| tags.contains(&k)));
        if let Some((key, _)) = strange {
            let name = key.as_str().unwrap_or_default();
            let help = spelling::suggestion(name, tags.iter().copied());
            let message = format!("`{}` has no field `{name}`", dotted(error));
            return self.report(codes::CONFIG_UNKNOWN_FIELD, key.span, message, help);
        }
        let message = match node {
            Some(Node {
                value: Value::Mapping(_),
                ..
            })
            | None => {
                format!("`{}` takes exactly one of {words}", dotted(error))
            }
            Some(other) => {
                let found = other.type_name();
                format!(
                    "`{}` must be a mapping with {words}, this is {found}",
                    dotted(error)
                )
            }
        };
        let span = self.holder(error);
        self.report(codes::CONFIG_ONE_OF, span, message, None);
    }
}
