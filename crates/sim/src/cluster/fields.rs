//! Sets of fields, in the form of `fieldsV1`: `f:name` a field, `k:{…}` an item of a
//! keyed list, `v:…` a member of a set, `.` the item itself.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::schema::{self, Items};

/// A set of fields as a tree.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Fields {
    /// The place itself is in the set.
    pub(crate) own: bool,
    pub(crate) below: BTreeMap<String, Self>,
}

impl Fields {
    fn leaf() -> Self {
        Self {
            own: true,
            below: BTreeMap::new(),
        }
    }

    /// All fields that a value names.
    pub(crate) fn of(value: &Value, field: &str) -> Self {
        match value {
            Value::Object(map) if !map.is_empty() && !schema::is_atomic(field) => Self {
                own: false,
                below: map
                    .iter()
                    .map(|(key, value)| (format!("f:{key}"), Self::of(value, key)))
                    .collect(),
            },
            Value::Array(list) if !list.is_empty() => match schema::items(field, list) {
                Items::Atomic => Self::leaf(),
                Items::Set => Self {
                    own: false,
                    below: list
                        .iter()
                        .map(|item| (format!("v:{item}"), Self::leaf()))
                        .collect(),
                },
                Items::Keyed(keys) => Self {
                    own: false,
                    below: list
                        .iter()
                        .map(|item| {
                            let below = Self {
                                own: true,
                                ..Self::of(item, "")
                            };
                            (format!("k:{}", schema::key_of(&keys, item)), below)
                        })
                        .collect(),
                },
            },
            _ => Self::leaf(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.own && self.below.is_empty()
    }

    /// As `fieldsV1`.
    pub(crate) fn to_json(&self) -> Value {
        let mut map = Map::new();
        if self.own && !self.below.is_empty() {
            map.insert(".".to_owned(), json!({}));
        }
        for (step, below) in &self.below {
            map.insert(step.clone(), below.to_json());
        }
        Value::Object(map)
    }

    /// Of `fieldsV1`.
    pub(crate) fn from_json(json: &Value) -> Self {
        let map = json.as_object();
        let below: BTreeMap<String, Self> = map
            .into_iter()
            .flatten()
            .filter(|(step, _)| *step != ".")
            .map(|(step, below)| (step.clone(), Self::from_json(below)))
            .collect();
        Self {
            own: below.is_empty() || map.is_some_and(|map| map.contains_key(".")),
            below,
        }
    }

    /// Those of ours that the other has, too.
    pub(crate) fn leaves(&self) -> Vec<Vec<String>> {
        let mut found = Vec::new();
        self.walk(&mut Vec::new(), &mut found);
        found
    }

    fn walk(&self, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
        if self.own {
            found.push(path.clone());
        }
        for (step, below) in &self.below {
            path.push(step.clone());
            below.walk(path, found);
            path.pop();
        }
    }

    /// The place at a path is in the set.
    pub(crate) fn has(&self, path: &[String]) -> bool {
        match path.split_first() {
            None => self.own,
            Some((step, rest)) => self.below.get(step).is_some_and(|below| below.has(rest)),
        }
    }

    pub(crate) fn add(&mut self, path: &[String]) {
        match path.split_first() {
            None => self.own = true,
            Some((step, rest)) => self.below.entry(step.clone()).or_default().add(rest),
        }
    }

    /// Take a place out, and what became empty by it.
    pub(crate) fn remove(&mut self, path: &[String]) {
        match path.split_first() {
            None => self.own = false,
            Some((step, rest)) => {
                if let Some(below) = self.below.get_mut(step) {
                    below.remove(rest);
                    if below.is_empty() {
                        self.below.remove(step);
                    }
                }
            }
        }
    }
}

/// The value at a path.
pub(crate) fn at<'a>(value: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, step| {
        let (tag, rest) = step.split_once(':')?;
        match tag {
            "f" => value.get(rest),
            "k" => {
                let keys: Map<String, Value> = serde_json::from_str(rest).ok()?;
                value.as_array()?.iter().find(|item| is_item(item, &keys))
            }
            "v" => {
                let wanted: Value = serde_json::from_str(rest).ok()?;
                value.as_array()?.iter().find(|item| **item == wanted)
            }
            _ => None,
        }
    })
}

/// An item with these keys; `protocol` may be left to its default.
pub(crate) fn is_item(item: &Value, keys: &Map<String, Value>) -> bool {
    keys.iter().all(|(key, wanted)| match item.get(key) {
        Some(found) => found == wanted,
        None => key == "protocol" && wanted == "TCP",
    })
}

/// Take the value at a path away.
pub(crate) fn cut(value: &mut Value, path: &[String]) {
    let Some((step, rest)) = path.split_first() else {
        return;
    };
    let Some((tag, name)) = step.split_once(':') else {
        return;
    };
    match (tag, value) {
        ("f", Value::Object(map)) => {
            if rest.is_empty() {
                map.shift_remove(name);
            } else if let Some(below) = map.get_mut(name) {
                cut(below, rest);
                if *below == json!({}) || *below == json!([]) {
                    map.shift_remove(name);
                }
            }
        }
        ("k", Value::Array(list)) => {
            let keys: Map<String, Value> = serde_json::from_str(name).unwrap_or_default();
            if rest.is_empty() {
                list.retain(|item| !is_item(item, &keys));
            } else if let Some(item) = list.iter_mut().find(|item| is_item(item, &keys)) {
                cut(item, rest);
            }
        }
        ("v", Value::Array(list)) => {
            let gone: Option<Value> = serde_json::from_str(name).ok();
            list.retain(|item| Some(item) != gone.as_ref());
        }
        _ => {}
    }
}

/// Lay the applied value over the live one.
pub(crate) fn merge(live: &mut Value, applied: &Value, field: &str) {
    match (live, applied) {
        (Value::Object(live), Value::Object(applied))
            if !schema::is_atomic(field) && !applied.is_empty() =>
        {
            for (key, value) in applied {
                match live.get_mut(key) {
                    Some(known) => merge(known, value, key),
                    None => drop(live.insert(key.clone(), value.clone())),
                }
            }
        }
        // An empty map that is granular only says that it is there.
        (Value::Object(_), Value::Object(applied)) if applied.is_empty() => {}
        (Value::Array(live), Value::Array(applied)) => match schema::items(field, applied) {
            Items::Atomic => live.clone_from(applied),
            Items::Set => {
                for item in applied {
                    if !live.contains(item) {
                        live.push(item.clone());
                    }
                }
            }
            Items::Keyed(keys) => {
                for item in applied {
                    let text = schema::key_of(&keys, item);
                    let wanted: Map<String, Value> =
                        serde_json::from_str(&text).unwrap_or_default();
                    match live.iter_mut().find(|known| is_item(known, &wanted)) {
                        Some(known) => merge(known, item, ""),
                        None => live.push(item.clone()),
                    }
                }
            }
        },
        (live, applied) => live.clone_from(applied),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_pod_template() {
        let value = json!({"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 80}]}],
            "nodeSelector": {"x": "y"}}});
        let fields = Fields::of(&value, "");
        let wanted = json!({"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:name": {},
            "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}},
            "f:nodeSelector": {}}});
        assert_eq!(fields.to_json(), wanted);
        assert_eq!(Fields::from_json(&wanted).to_json(), wanted);
    }

    #[test]
    fn an_item_is_merged_by_its_keys_and_cut_by_its_path() {
        let mut live = json!({"env": [{"name": "a", "value": "1"}, {"name": "b", "value": "2"}]});
        merge(
            &mut live,
            &json!({"env": [{"name": "b", "value": "3"}]}),
            "",
        );
        assert_eq!(live["env"][1]["value"], "3");
        cut(&mut live, &["f:env".into(), "k:{\"name\":\"a\"}".into()]);
        assert_eq!(live, json!({"env": [{"name": "b", "value": "3"}]}));
    }
}
