//! Server-side apply and plain updates, with managed fields (KEP-555): who applies a
//! field owns it, others conflict, what is no longer applied and nobody else's goes.

use serde_json::{Value, json};
use trueup_model::facts::object::ObjectRef;
use trueup_model::port::ApplyRefusal;

use super::fields::{Fields, at, cut, merge};
use super::kind::is_namespaced;
use super::store::{key_of, time};
use super::{Cluster, Key, text};

/// Who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Manager<'a> {
    pub(crate) name: &'a str,
    /// `Apply` or `Update`.
    pub(crate) operation: &'a str,
    pub(crate) subresource: Option<&'a str>,
}

impl<'a> Manager<'a> {
    pub(crate) fn applying(name: &'a str) -> Self {
        Self {
            name,
            operation: "Apply",
            subresource: None,
        }
    }
    pub(crate) fn updating(name: &'a str, subresource: Option<&'a str>) -> Self {
        Self {
            name,
            operation: "Update",
            subresource,
        }
    }
    fn is(&self, entry: &Value) -> bool {
        text(entry, "/manager") == self.name
            && text(entry, "/operation") == self.operation
            && entry.get("subresource").and_then(Value::as_str) == self.subresource
    }
    fn entry(&self, api_version: &str, fields: &Fields, now_ms: i64) -> Value {
        let mut entry = json!({
            "manager": self.name, "operation": self.operation, "apiVersion": api_version,
            "time": time(now_ms), "fieldsType": "FieldsV1", "fieldsV1": fields.to_json(),
        });
        if let (Some(subresource), Some(map)) = (self.subresource, entry.as_object_mut()) {
            map.insert("subresource".to_owned(), subresource.into());
        }
        entry
    }
}

/// One entry of `managedFields`.
struct Managed {
    entry: Value,
    fields: Fields,
}

fn managed_of(json: &Value) -> Vec<Managed> {
    let entries = json
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array);
    entries
        .into_iter()
        .flatten()
        .map(|entry| Managed {
            fields: Fields::from_json(entry.get("fieldsV1").unwrap_or(&Value::Null)),
            entry: entry.clone(),
        })
        .collect()
}

fn write_managed(json: &mut Value, managed: Vec<Managed>) {
    let entries: Vec<Value> = managed
        .into_iter()
        .filter(|managed| !managed.fields.below.is_empty())
        .map(|managed| {
            let mut entry = managed.entry;
            if let Some(map) = entry.as_object_mut() {
                map.insert("fieldsV1".to_owned(), managed.fields.to_json());
            }
            entry
        })
        .collect();
    if let Some(metadata) = json.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("managedFields".to_owned(), entries.into());
    }
}

/// What an apply owns: all that it names but the object's own name.
fn applied_fields(object: &Value) -> Fields {
    let mut content = object.clone();
    if let Some(map) = content.as_object_mut() {
        map.shift_remove("apiVersion");
        map.shift_remove("kind");
        if let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) {
            for key in ["name", "namespace", "uid", "resourceVersion"] {
                metadata.shift_remove(key);
            }
            if metadata.is_empty() {
                map.shift_remove("metadata");
            }
        }
    }
    Fields::of(&content, "")
}

/// `.spec.replicas`, for messages.
fn shown(path: &[String]) -> String {
    let steps = path.iter().map(|step| match step.split_once(':') {
        Some(("f", name)) => format!(".{name}"),
        Some((_, rest)) => format!("[{rest}]"),
        None => String::new(),
    });
    steps.collect::<String>().trim_start_matches('.').to_owned()
}

impl Cluster {
    /// Server-side apply: the object that stands afterwards (or would), and whether it
    /// is new. `uid` is that of a new one.
    pub(crate) fn apply(
        &mut self,
        object: &Value,
        manager: Manager<'_>,
        force: bool,
        (uid, dry_run, now_ms): (String, bool, i64),
    ) -> Result<(Value, bool), ApplyRefusal> {
        self.admit(object)?;
        let key = key_of(object);
        let live = self.objects.get(&key).map(|stored| stored.json.clone());
        let created = live.is_none();
        let mut json = live.unwrap_or_else(|| {
            json!({
                "apiVersion": object.get("apiVersion"), "kind": object.get("kind"),
                "metadata": {"name": key.3, "uid": uid},
            })
        });
        if !key.2.is_empty()
            && let Some(metadata) = json.get_mut("metadata").and_then(Value::as_object_mut)
        {
            metadata.insert("namespace".to_owned(), key.2.clone().into());
        }
        let wanted = applied_fields(object);
        let mut managed = managed_of(&json);
        conflicts(&json, object, &wanted, manager, force, &mut managed)?;
        let before = managed.iter().position(|entry| manager.is(&entry.entry));
        let gone = before
            .map(|at| managed.remove(at))
            .map(|entry| entry.fields);
        for path in gone.iter().flat_map(Fields::leaves) {
            let others = managed.iter().any(|entry| touches(&entry.fields, &path));
            if !touches(&wanted, &path) && !others {
                cut(&mut json, &path);
            }
        }
        merge(&mut json, object, "");
        let entry = manager.entry(text(object, "/apiVersion"), &wanted, now_ms);
        managed.push(Managed {
            entry,
            fields: wanted,
        });
        write_managed(&mut json, managed);
        let stood = self.objects.get(&key).map(|stored| &stored.json);
        super::kind_rules(stood, &json)?;
        if dry_run {
            super::defaults::fill(&mut json);
            return Ok((json, created));
        }
        Ok((self.put(json, now_ms), created))
    }

    /// Change an object in place as `manager`: what differs afterwards is theirs.
    pub(crate) fn update(
        &mut self,
        key: &Key,
        manager: Manager<'_>,
        now_ms: i64,
        change: impl FnOnce(&mut Value),
    ) -> bool {
        let Some(stored) = self.objects.get(key) else {
            return false;
        };
        let before = stored.json.clone();
        let mut json = before.clone();
        change(&mut json);
        let mut theirs = Fields::default();
        let content = |json: &Value| {
            let mut content = json.clone();
            if let Some(metadata) = content.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.shift_remove("managedFields");
            }
            content
        };
        let (old, new) = (content(&before), content(&json));
        for path in Fields::of(&new, "").leaves() {
            if at(&old, &path) != at(&new, &path) {
                theirs.add(&path);
            }
        }
        let mut managed = managed_of(&json);
        for entry in &mut managed {
            for path in theirs.leaves() {
                entry.fields.remove(&path);
            }
            for path in entry.fields.leaves() {
                if at(&new, &path).is_none() {
                    entry.fields.remove(&path);
                }
            }
        }
        let known = managed.iter().position(|entry| manager.is(&entry.entry));
        let mut all = known
            .map(|at| managed.remove(at).fields)
            .unwrap_or_default();
        for path in theirs.leaves() {
            all.add(&path);
        }
        let entry = manager.entry(text(&json, "/apiVersion"), &all, now_ms);
        managed.push(Managed { entry, fields: all });
        write_managed(&mut json, managed);
        let before = self.revision;
        self.put(json, now_ms);
        before != self.revision
    }

    /// The kind is served, the namespace is there.
    fn admit(&self, object: &Value) -> Result<(), ApplyRefusal> {
        let (api_version, kind) = (text(object, "/apiVersion"), text(object, "/kind"));
        let namespace = text(object, "/metadata/namespace");
        let Some(namespaced) = is_namespaced(self, api_version, kind) else {
            return Err(ApplyRefusal::NotYet(format!(
                "no matches for kind {kind:?} in version {api_version:?}"
            )));
        };
        let named = format!("{kind}/{}", text(object, "/metadata/name"));
        match (namespaced, namespace.is_empty()) {
            (true, true) => Err(ApplyRefusal::Invalid(format!(
                "{named} needs a namespace: its kind lives in namespaces"
            ))),
            (false, false) => Err(ApplyRefusal::Invalid(format!(
                "{named} must not have a namespace: its kind has none"
            ))),
            (true, false) if !self.has_namespace(namespace) => Err(ApplyRefusal::NotYet(format!(
                "namespaces {namespace:?} not found"
            ))),
            _ => Ok(()),
        }
    }

    /// One object.
    pub(crate) fn get(&self, object: &ObjectRef) -> Option<&Value> {
        let key = (
            object.group().to_owned(),
            object.kind.clone(),
            object.namespace.clone(),
            object.name.clone(),
        );
        self.objects.get(&key).map(|stored| &stored.json)
    }
}

/// A set has a place, or something below it.
fn touches(fields: &Fields, path: &[String]) -> bool {
    match path.split_first() {
        None => true,
        Some((step, rest)) => fields
            .below
            .get(step)
            .is_some_and(|below| touches(below, rest)),
    }
}

/// Fields that others own with other values: a refusal, or taken from them by force.
fn conflicts(
    live: &Value,
    object: &Value,
    wanted: &Fields,
    manager: Manager<'_>,
    force: bool,
    managed: &mut [Managed],
) -> Result<(), ApplyRefusal> {
    let mut found = Vec::new();
    for other in managed.iter_mut().filter(|other| !manager.is(&other.entry)) {
        for path in wanted.leaves() {
            let (have, want) = (at(live, &path), at(object, &path));
            let item = want.is_some_and(|want| want.is_object() && have.is_some());
            if !other.fields.has(&path) || have == want || item {
                continue;
            }
            if force {
                other.fields.remove(&path);
            } else {
                found.push((text(&other.entry, "/manager").to_owned(), shown(&path)));
            }
        }
    }
    if found.is_empty() {
        Ok(())
    } else {
        Err(ApplyRefusal::Conflict(found))
    }
}
