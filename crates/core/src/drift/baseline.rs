//! The baseline: a tree of the fields that we own, with the values that the API
//! server answered. Its keys are those of `fieldsV1`, so that it is as compact as
//! managed fields are; a Secret's values are kept as keyed hashes only.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::segment::{Segment, same};

/// How values that must not be stored are hidden.
#[derive(Clone, Copy)]
pub struct Masking<'a> {
    /// A keyed hash (HMAC) of bytes, as text. The key never leaves the host.
    pub mac: &'a dyn Fn(&[u8]) -> String,
    /// Every value of the object came from an encrypted source, not only a Secret's.
    pub whole: bool,
}

impl std::fmt::Debug for Masking<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Masking")
            .field("whole", &self.whole)
            .finish_non_exhaustive()
    }
}

/// What trueup applied, as the API server understood it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// The owned fields.
    pub(super) root: Branch,
    /// Rebuilt by a dry run because the recorded one was lost: it says what would be
    /// applied now, not what was applied then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rebuilt: bool,
}

/// A part of the tree: the item's own value if it is a leaf, and what lies below.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Branch {
    /// An owned leaf.
    #[serde(rename = "=", default, skip_serializing_if = "Option::is_none")]
    pub(super) leaf: Option<Leaf>,
    /// An item that we own as such: that it is there.
    #[serde(rename = ".", default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) exists: bool,
    /// By the step's text in `fieldsV1`.
    #[serde(flatten)]
    pub(super) below: BTreeMap<String, Self>,
}

/// The value of a leaf.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Leaf {
    /// As it is; null where the server's answer has nothing there.
    #[serde(rename = "v")]
    Value(Value),
    /// Its keyed hash.
    #[serde(rename = "h")]
    Mac(String),
}

impl Baseline {
    /// Reduce the answer to an apply (or its dry run) to the fields that `manager`
    /// owns by apply.
    ///
    /// An answer without such an entry gives an empty baseline: nothing is ours.
    pub fn from_answer(answer: &Value, manager: &str, masking: Masking<'_>) -> Self {
        let mut root = Branch::default();
        for fields in owned_fields(answer, manager) {
            let path = &mut Vec::new();
            let masks = masking.whole || is_secret(answer);
            let walk = Walk {
                masking,
                masks,
                whole: masking.whole,
            };
            walk.fields(fields, Some(answer), path, &mut root);
        }
        Self {
            root,
            rebuilt: false,
        }
    }

    /// True if nothing is owned.
    pub fn is_empty(&self) -> bool {
        self.root.leaf.is_none() && !self.root.exists && self.root.below.is_empty()
    }

    /// True if both baselines own the same fields with the same values: an apply of
    /// the one after the other would change nothing.
    pub fn same_intent(&self, other: &Self) -> bool {
        same_branch(&self.root, &other.root)
    }

    /// Owned here and no longer in `newer`: paths that an apply of the newer would
    /// give up, and the API server remove where nobody else owns them.
    pub fn given_up(&self, newer: &Self) -> Vec<String> {
        let mut gone = Vec::new();
        given_up(&self.root, Some(&newer.root), &mut String::new(), &mut gone);
        gone
    }
}

/// The `fieldsV1` of our apply. There may be several after a change of apiVersion:
/// then those of the answer's own version count, else all.
fn owned_fields<'a>(answer: &'a Value, manager: &str) -> Vec<&'a Map<String, Value>> {
    let entries = answer
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array);
    let is = |entry: &Value, key: &str, wanted: &str| {
        entry.get(key).and_then(Value::as_str) == Some(wanted)
    };
    let ours: Vec<&Value> = entries
        .into_iter()
        .flatten()
        .filter(|entry| {
            is(entry, "manager", manager)
                && is(entry, "operation", "Apply")
                && entry.get("subresource").is_none()
        })
        .collect();
    let version = answer.get("apiVersion").and_then(Value::as_str);
    let same_version: Vec<&Value> = ours
        .iter()
        .copied()
        .filter(|entry| version.is_some_and(|version| is(entry, "apiVersion", version)))
        .collect();
    let chosen = if same_version.is_empty() {
        ours
    } else {
        same_version
    };
    chosen
        .into_iter()
        .filter_map(|entry| entry.get("fieldsV1")?.as_object())
        .collect()
}

pub(super) fn is_secret(object: &Value) -> bool {
    object.get("kind").and_then(Value::as_str) == Some("Secret")
        && object.get("apiVersion").and_then(Value::as_str) == Some("v1")
}

struct Walk<'a> {
    masking: Masking<'a>,
    masks: bool,
    whole: bool,
}

impl Walk<'_> {
    fn fields(
        &self,
        fields: &Map<String, Value>,
        at: Option<&Value>,
        path: &mut Vec<String>,
        branch: &mut Branch,
    ) {
        for (key, below) in fields {
            if key == "." {
                branch.exists = true;
                continue;
            }
            let Some(segment) = Segment::parse(key) else {
                continue;
            };
            let found = at.and_then(|at| segment.of(at));
            let child = branch.below.entry(key.clone()).or_default();
            path.push(key.clone());
            match below.as_object() {
                Some(below) if !below.is_empty() => self.fields(below, found, path, child),
                // A member of a set is its own value: that it is there is all.
                _ if matches!(segment, Segment::Member(_)) => child.exists = true,
                _ => child.leaf = Some(self.leaf(path, found.unwrap_or(&Value::Null))),
            }
            path.pop();
        }
    }

    fn leaf(&self, path: &[String], value: &Value) -> Leaf {
        if self.masks && is_hidden(path, self.whole) {
            Leaf::Mac(mac_of(self.masking, path, value))
        } else {
            Leaf::Value(value.clone())
        }
    }
}

/// Values below a Secret's `data` are hidden, and everything of an object whose source
/// was encrypted but its metadata, which names it.
pub(super) fn is_hidden(path: &[String], whole: bool) -> bool {
    match path.first().map(String::as_str) {
        Some("f:data" | "f:stringData") => true,
        Some("f:metadata" | "f:kind" | "f:apiVersion") => false,
        _ => whole,
    }
}

/// The path goes into the hash: equal values in two places must not look equal.
pub(super) fn mac_of(masking: Masking<'_>, path: &[String], value: &Value) -> String {
    let mut bytes = path.join("\u{0}").into_bytes();
    bytes.push(0);
    write_canonical(value, &mut bytes);
    (masking.mac)(&bytes)
}

/// JSON with sorted fields: the order of a map must not change its hash.
fn write_canonical(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            out.push(b'{');
            for (key, value) in sorted {
                out.extend_from_slice(Value::from(key.as_str()).to_string().as_bytes());
                out.push(b':');
                write_canonical(value, out);
                out.push(b',');
            }
            out.push(b'}');
        }
        Value::Array(items) => {
            out.push(b'[');
            for item in items {
                write_canonical(item, out);
                out.push(b',');
            }
            out.push(b']');
        }
        scalar => out.extend_from_slice(scalar.to_string().as_bytes()),
    }
}

fn same_branch(one: &Branch, other: &Branch) -> bool {
    let same_leaf = match (&one.leaf, &other.leaf) {
        (Some(Leaf::Value(one)), Some(Leaf::Value(other))) => same(one, other),
        (one, other) => one == other,
    };
    same_leaf
        && one.exists == other.exists
        && one.below.len() == other.below.len()
        && one.below.iter().all(|(key, one)| {
            let other = other.below.get(key);
            other.is_some_and(|other| same_branch(one, other))
        })
}

fn given_up(old: &Branch, newer: Option<&Branch>, path: &mut String, gone: &mut Vec<String>) {
    if newer.is_none() && (old.leaf.is_some() || old.exists || old.below.is_empty()) {
        gone.push(path.clone());
        return;
    }
    for (key, below) in &old.below {
        let Some(segment) = Segment::parse(key) else {
            continue;
        };
        let length = path.len();
        segment.write(path);
        let newer = newer.and_then(|newer| newer.below.get(key));
        given_up(below, newer, path, gone);
        path.truncate(length);
    }
}
