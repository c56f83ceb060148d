//! A baseline against a live object.

use std::fmt;

use serde_json::Value;

use super::baseline::{Baseline, Branch, Leaf, Masking, mac_of};
use super::segment::{Segment, same};

/// Longest value that is shown, in characters.
const SHOWN_CHARS_MAX: usize = 200;

/// A value as it may be shown.
#[derive(Debug, Clone, PartialEq)]
pub enum Shown {
    /// The value.
    Value(Value),
    /// There is one, and it is secret.
    Secret,
    /// There is none.
    Absent,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret => f.write_str("<secret>"),
            Self::Absent => f.write_str("<absent>"),
            Self::Value(value) => {
                let text = value.to_string();
                if text.chars().count() <= SHOWN_CHARS_MAX {
                    return f.write_str(&text);
                }
                let cut: String = text.chars().take(SHOWN_CHARS_MAX).collect();
                write!(f, "{cut}…")
            }
        }
    }
}

/// A field that is not as it was applied.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldDrift {
    /// `spec.replicas`, `spec.containers[name=app].image`.
    pub path: String,
    /// As it was applied.
    pub wanted: Shown,
    /// As it is.
    pub live: Shown,
}

impl fmt::Display for FieldDrift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (applied: {})", self.path, self.live, self.wanted)
    }
}

impl Baseline {
    /// Fields of the baseline that are otherwise in `live`, in the order of their
    /// paths. Fields that we do not own never count, nor the order of associative lists.
    pub fn drift<'a>(&self, live: &'a Value, masking: Masking<'a>) -> Vec<FieldDrift> {
        let mut search = Search {
            masking,
            managed: managed_fields(live),
            keys: Vec::new(),
            path: String::new(),
            found: Vec::new(),
        };
        search.branch(&self.root, Some(live));
        search.found
    }
}

struct Search<'a> {
    masking: Masking<'a>,
    /// `fieldsV1` of every manager of the live object, where it has them.
    managed: Vec<&'a Value>,
    /// Steps as in `fieldsV1`: what the hashes were made with.
    keys: Vec<String>,
    /// Steps as they are shown.
    path: String,
    found: Vec<FieldDrift>,
}

impl Search<'_> {
    fn branch(&mut self, branch: &Branch, live: Option<&Value>) {
        if let Some(leaf) = &branch.leaf {
            self.leaf(leaf, live);
        }
        // One line for a whole item that is missing, not one for each of its fields.
        if branch.exists && live.is_none() && branch.leaf.is_none() {
            self.found.push(FieldDrift {
                path: self.path.clone(),
                wanted: whole(branch),
                live: Shown::Absent,
            });
            return;
        }
        for (key, below) in &branch.below {
            let Some(segment) = Segment::parse(key) else {
                continue;
            };
            let length = self.path.len();
            segment.write(&mut self.path);
            self.keys.push(key.clone());
            self.branch(below, live.and_then(|live| segment.of(live)));
            self.keys.pop();
            self.path.truncate(length);
        }
    }

    fn leaf(&mut self, leaf: &Leaf, live: Option<&Value>) {
        let (equal, wanted, live) = match leaf {
            Leaf::Value(wanted) => {
                let equal = same(wanted, live.unwrap_or(&Value::Null))
                    || live.is_some_and(|live| self.filled_by_others(wanted, live));
                (equal, shown(Some(wanted)), shown(live))
            }
            Leaf::Mac(wanted) => {
                let value = live.unwrap_or(&Value::Null);
                let equal = *wanted == mac_of(self.masking, &self.keys, value);
                let live = live.map_or(Shown::Absent, |_| Shown::Secret);
                (equal, Shown::Secret, live)
            }
        };
        if !equal {
            self.found.push(FieldDrift {
                path: self.path.clone(),
                wanted,
                live,
            });
        }
    }

    /// We applied an empty map or list, and others own single items in it. `fieldsV1`
    /// writes our empty `securityContext: {}` just as it writes an atomic
    /// `podSelector: {}`; only where the field is granular does anybody own parts of
    /// it, and those are theirs. Without managed fields it counts as drift.
    fn filled_by_others(&self, wanted: &Value, live: &Value) -> bool {
        let both_maps =
            wanted.as_object().is_some_and(serde_json::Map::is_empty) && live.is_object();
        let both_lists = wanted.as_array().is_some_and(Vec::is_empty) && live.is_array();
        (both_maps || both_lists)
            && self.managed.iter().any(|fields| {
                let below = self
                    .keys
                    .iter()
                    .try_fold(*fields, |fields, key| fields.get(key));
                below
                    .and_then(Value::as_object)
                    .is_some_and(|parts| parts.keys().any(|key| key != "."))
            })
    }
}

fn managed_fields(live: &Value) -> Vec<&Value> {
    let entries = live
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array);
    entries
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.get("fieldsV1"))
        .collect()
}

fn shown(value: Option<&Value>) -> Shown {
    match value {
        None | Some(Value::Null) => Shown::Absent,
        Some(value) => Shown::Value(value.clone()),
    }
}

/// What an item was, for a line that says it is missing: its owned values.
fn whole(branch: &Branch) -> Shown {
    match value_of(branch) {
        Some(value) => Shown::Value(value),
        None => Shown::Secret,
    }
}

/// The owned values as JSON; `None` if any is secret.
fn value_of(branch: &Branch) -> Option<Value> {
    match &branch.leaf {
        Some(Leaf::Value(value)) => return Some(value.clone()),
        Some(Leaf::Mac(_)) => return None,
        None => {}
    }
    let mut map = serde_json::Map::new();
    let mut list = Vec::new();
    for (key, below) in &branch.below {
        match Segment::parse(key)? {
            Segment::Field(name) => {
                map.insert(name, value_of(below)?);
            }
            Segment::Member(value) => list.push(value),
            Segment::Key(_) | Segment::Place(_) => list.push(value_of(below)?),
        }
    }
    Some(if list.is_empty() {
        Value::Object(map)
    } else {
        Value::Array(list)
    })
}
