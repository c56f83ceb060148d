//! One step of a path in `fieldsV1`, as structured-merge-diff writes it: `f:name` a
//! field, `k:{…}` an item of an associative list by its keys, `v:…` a member of a
//! set, `i:n` an item by its place; `.` is the item itself.

use serde_json::{Map, Value};

/// A parsed step.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Segment {
    /// A field of a map.
    Field(String),
    /// An item of a list by its key fields.
    Key(Map<String, Value>),
    /// A member of a set.
    Member(Value),
    /// An item by its place.
    Place(usize),
}

impl Segment {
    /// Parse; `None` for what is not a step (`.`, or something new).
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (tag, rest) = text.split_once(':')?;
        match tag {
            "f" => Some(Self::Field(rest.to_owned())),
            "k" => serde_json::from_str(rest).ok().map(Self::Key),
            "v" => serde_json::from_str(rest).ok().map(Self::Member),
            "i" => rest.parse().ok().map(Self::Place),
            _ => None,
        }
    }

    /// What the step leads to.
    pub(super) fn of<'a>(&self, parent: &'a Value) -> Option<&'a Value> {
        match self {
            Self::Field(name) => parent.get(name),
            Self::Key(keys) => parent.as_array()?.iter().find(|item| {
                keys.iter()
                    .all(|(key, wanted)| item.get(key).is_some_and(|found| same(found, wanted)))
            }),
            Self::Member(wanted) => parent.as_array()?.iter().find(|item| same(item, wanted)),
            Self::Place(at) => parent.as_array()?.get(*at),
        }
    }

    /// Append the step as kubectl would write it.
    pub(super) fn write(&self, path: &mut String) {
        match self {
            Self::Field(name) => {
                // A name with a dot or slash (labels, data keys) would not read as one.
                let plain = name.chars().all(|letter| {
                    letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '$')
                });
                if plain {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(name);
                } else {
                    path.push_str(&format!("[{name}]"));
                }
            }
            Self::Key(keys) => {
                let pairs: Vec<String> = keys
                    .iter()
                    .map(|(key, value)| format!("{key}={}", bare(value)))
                    .collect();
                path.push_str(&format!("[{}]", pairs.join(",")));
            }
            Self::Member(value) => path.push_str(&format!("[{}]", bare(value))),
            Self::Place(at) => path.push_str(&format!("[{at}]")),
        }
    }
}

fn bare(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// Equal as JSON means it: `1` and `1.0` are one number, and the order of a map's
/// fields says nothing.
pub(super) fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(a), Value::Number(b)) => {
            a == b || (a.as_f64() == b.as_f64() && (a.is_f64() || b.is_f64()))
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => one == other,
    }
}
