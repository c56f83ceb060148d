//! The kinds: their names and JSON Schemas.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jsonschema::Validator;
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Value, json};
use trueup_model::id::NodeName;
use trueup_model::kinds::{self, API_VERSION};

/// A kind of document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// One for a folder of the repo.
    Fleet,
    /// A machine.
    Node,
    /// What machines share.
    NodeProfile,
    /// A k3s cluster.
    Cluster,
    /// Manifests for a cluster.
    Application,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 5] = [
        Self::Fleet,
        Self::Node,
        Self::NodeProfile,
        Self::Cluster,
        Self::Application,
    ];

    /// The word in the document.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fleet => "Fleet",
            Self::Node => "Node",
            Self::NodeProfile => "NodeProfile",
            Self::Cluster => "Cluster",
            Self::Application => "Application",
        }
    }

    /// Its file in `schema/`.
    #[must_use]
    pub fn schema_file(self) -> String {
        format!("{}.schema.json", self.name().to_lowercase())
    }

    /// The kind of this name, upper and lower case as written.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The JSON Schema of a whole document of this kind (draft 2020-12).
    #[must_use]
    pub fn schema(self) -> Value {
        let (about, spec) = match self {
            Self::Fleet => (
                "One fleet: everything in its folder, less nested Fleets.",
                spec::<kinds::Fleet>(),
            ),
            Self::Node => (
                "One machine, and its place in a cluster.",
                spec::<kinds::Node>(),
            ),
            Self::NodeProfile => ("What many machines share.", spec::<kinds::NodeProfile>()),
            Self::Cluster => ("One k3s cluster.", spec::<kinds::Cluster>()),
            Self::Application => ("Manifests for one cluster.", spec::<kinds::Application>()),
        };
        document_schema(self, about, spec)
    }

    /// The compiled schema; `None` only if a kind's types make no schema, which a test rules out.
    pub(super) fn validator(self) -> Option<&'static (Value, Validator)> {
        static ALL: LazyLock<BTreeMap<Kind, (Value, Validator)>> = LazyLock::new(|| {
            let compile = |kind: Kind| {
                let schema = kind.schema();
                let validator = jsonschema::draft202012::new(&schema).ok()?;
                Some((kind, (schema, validator)))
            };
            Kind::ALL.into_iter().filter_map(compile).collect()
        });
        ALL.get(&self)
    }
}

fn spec<T: JsonSchema>() -> Value {
    let generator = SchemaGenerator::new(SchemaSettings::draft2020_12());
    generator.into_root_schema_for::<T>().to_value()
}

fn document_schema(kind: Kind, about: &str, mut spec: Value) -> Value {
    let mut definitions = json!({});
    if let Some(object) = spec.as_object_mut() {
        object.remove("$schema");
        object.remove("title");
        if let Some(found) = object.remove("$defs") {
            definitions = found;
        }
    }
    let name = NodeName::json_schema(&mut SchemaGenerator::default()).to_value();
    let mut name = name.as_object().cloned().unwrap_or_default();
    name.insert(
        "description".into(),
        json!("Its name, unique per kind in the Fleet: lower-case letters, digits and `-`."),
    );
    let words = |about: &str| json!({ "type": "object", "description": about, "additionalProperties": { "type": "string" } });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": kind.name(),
        "description": about,
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": false,
        "properties": {
            "apiVersion": { "const": API_VERSION, "description": "The version of this format." },
            "kind": { "const": kind.name(), "description": "What the document describes." },
            "metadata": {
                "type": "object",
                "description": "What it is called.",
                "required": ["name"],
                "additionalProperties": false,
                "properties": {
                    "name": name,
                    "labels": words("Words to select it by."),
                    "annotations": words("Notes; trueup does not read them."),
                },
            },
            "spec": spec,
        },
        "$defs": definitions,
    })
}

#[cfg(test)]
mod tests {
    use super::Kind;

    #[test]
    fn every_kind_has_a_schema_that_compiles() {
        for kind in Kind::ALL {
            assert_eq!(Kind::named(kind.name()), Some(kind));
            assert!(kind.validator().is_some(), "{}", kind.name());
        }
    }

    /// `UPDATE_SCHEMA=1 cargo test -p trueup-core schema` writes the files anew.
    #[test]
    fn the_schema_files_are_those_of_the_types() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schema");
        for kind in Kind::ALL {
            let path = folder.join(kind.schema_file());
            let now = serde_json::to_string_pretty(&kind.schema()).unwrap() + "\n";
            if std::env::var_os("UPDATE_SCHEMA").is_some() {
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(&path, &now).unwrap();
            }
            let file = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                file == now,
                "{} differs: run with UPDATE_SCHEMA=1",
                path.display()
            );
        }
    }

    /// Every field of every object has a description: editors show it.
    #[test]
    fn every_field_is_described() {
        fn walk(path: &str, schema: &serde_json::Value, silent: &mut Vec<String>) {
            if let Some(fields) = schema.get("properties").and_then(|p| p.as_object()) {
                for (name, field) in fields {
                    // The one field of an enum's form is described by the form.
                    let form = fields.len() == 1 && schema.get("description").is_some();
                    let described = field.get("description").is_some() || form;
                    if !described && field.get("$ref").is_none() {
                        silent.push(format!("{path}.{name}"));
                    }
                }
            }
            match schema {
                serde_json::Value::Object(object) => {
                    object
                        .iter()
                        .for_each(|(key, v)| walk(&format!("{path}/{key}"), v, silent));
                }
                serde_json::Value::Array(items) => items.iter().for_each(|v| walk(path, v, silent)),
                _ => {}
            }
        }
        for kind in Kind::ALL {
            let mut silent = Vec::new();
            walk(kind.name(), &kind.schema(), &mut silent);
            assert_eq!(silent, [] as [&str; 0]);
        }
    }
}
