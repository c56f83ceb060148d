//! What the watches have told: a plain struct without I/O. Events go in, facts come
//! out, and the list of objects that must be asked for by name before anything can
//! be said of them.
//!
//! Two rules keep it honest. An object that leaves a watch's selector is *pending*
//! until it was fetched by name: someone may only have taken its label away. And a
//! later resourceVersion is never overwritten by an earlier one, so the answer to our
//! own write and the watch may arrive in any order.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde_json::Value;
use trueup_model::facts::cluster::{InventoryEntry, NodeObject};
use trueup_model::facts::object::{APPLICATION_LABEL, FIELD_MANAGER, LiveObject, ObjectRef};

use super::node;
use super::record::Records;

/// What one watch looks at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// All Nodes.
    Nodes,
    /// The ConfigMaps of trueup's namespace: inventories and the ownership record.
    Records,
    /// Objects of a kind (`apiVersion`, `kind`) that carry our label.
    Kind(String, String),
    /// One object that lost our label, by name.
    Stray(ObjectRef),
}

impl Subject {
    /// The kind that is blind when this watch is silent.
    pub(crate) fn blind_key(&self) -> String {
        match self {
            Self::Nodes => "v1 Node".to_owned(),
            Self::Records => "v1 ConfigMap (trueup-system)".to_owned(),
            Self::Kind(api_version, kind) => format!("{api_version} {kind}"),
            Self::Stray(object) => format!("{} {}", object.api_version, object.kind),
        }
    }
}

/// A live object as it is kept.
struct Cached {
    version: String,
    uid: String,
    labelled: bool,
    json: Arc<Value>,
}

// An object may be a Secret: no Debug output shows its content.
impl fmt::Debug for Cached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cached")
    }
}

type Place = (String, String);

/// Objects of one kind.
#[derive(Debug, Default)]
struct KindCache {
    objects: BTreeMap<Place, Cached>,
    /// Left the selector; not yet fetched by name.
    pending: BTreeSet<Place>,
    /// Asked for by name, with this UID, and not there.
    absent: BTreeSet<(Place, String)>,
}

/// What the watches have told.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    pub(crate) nodes: BTreeMap<String, (String, NodeObject)>,
    pub(crate) records: Records,
    kinds: BTreeMap<(String, String), KindCache>,
    /// Grows with every change that could matter to a reader.
    pub(crate) change: u64,
    /// Lookups may have come up.
    look: bool,
}

/// Parts of an object's metadata that the cache sorts by.
struct Meta {
    place: Place,
    version: String,
    uid: String,
    labelled: bool,
}

fn meta_of(object: &Value) -> Option<Meta> {
    let metadata = object.get("metadata")?;
    let text = |key: &str| {
        let value = metadata.get(key).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    Some(Meta {
        place: (text("namespace"), text("name")),
        version: text("resourceVersion"),
        uid: text("uid"),
        labelled: metadata
            .get("labels")
            .is_some_and(|labels| labels.get(APPLICATION_LABEL).is_some()),
    })
}

/// Ours and those of controllers that write statuses are half of a small object's
/// bytes, and nobody reads them here: the baseline is made from the answer to an
/// apply. Those of other editors are few, and tell whose an item of a map is.
fn drop_managed_fields(object: &mut Value) {
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
    let Some(metadata) = metadata else {
        return;
    };
    let Some(Value::Array(mut entries)) = metadata.remove("managedFields") else {
        return;
    };
    entries.retain(|entry| {
        let ours = entry.get("manager").and_then(Value::as_str) == Some(FIELD_MANAGER);
        !ours && entry.get("subresource").is_none()
    });
    if !entries.is_empty() {
        metadata.insert("managedFields".to_owned(), Value::Array(entries));
    }
}

/// Resource versions of one kind are decimal numbers that grow; where one is not,
/// the later word counts.
pub(crate) fn is_newer(fresh: &str, known: &str) -> bool {
    match (fresh.parse::<u128>(), known.parse::<u128>()) {
        (Ok(fresh), Ok(known)) => fresh > known,
        _ => fresh != known,
    }
}

/// Equal but for what moves without meaning.
fn same_but_version(one: &Value, other: &Value) -> bool {
    let strip = |object: &Value| {
        let mut object = object.clone();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("resourceVersion");
            metadata.remove("managedFields");
        }
        object
    };
    strip(one) == strip(other)
}

impl Cache {
    /// A whole list replaces what was known of a subject.
    pub(crate) fn replace(&mut self, subject: &Subject, items: Vec<Value>) {
        match subject {
            Subject::Nodes => {
                let names: BTreeSet<String> = items
                    .iter()
                    .filter_map(|item| meta_of(item).map(|meta| meta.place.1))
                    .collect();
                let before = self.nodes.len();
                self.nodes.retain(|name, _| names.contains(name));
                self.touch(before != self.nodes.len());
            }
            Subject::Records => {
                let names: BTreeSet<String> = items
                    .iter()
                    .filter_map(|item| meta_of(item).map(|meta| meta.place.1))
                    .collect();
                let lost = self.records.retain(|name| names.contains(name));
                self.look = true;
                self.touch(lost);
            }
            Subject::Kind(api_version, kind) => {
                let listed: BTreeSet<Place> = items
                    .iter()
                    .filter_map(|item| meta_of(item).map(|meta| meta.place))
                    .collect();
                let cache = self.kind(api_version, kind);
                let gone: Vec<Place> = cache
                    .objects
                    .iter()
                    .filter(|(place, cached)| cached.labelled && !listed.contains(*place))
                    .map(|(place, _)| place.clone())
                    .collect();
                let any = !gone.is_empty();
                cache.pending.extend(gone);
                // Whatever was absent when it was asked for may have come and gone.
                cache.absent.clear();
                self.look = true;
                self.touch(any);
            }
            Subject::Stray(object) => {
                if items.is_empty() {
                    self.gone(object, None);
                }
            }
        }
        for item in items {
            self.put(subject, item);
        }
    }

    /// An object as it is now.
    pub(crate) fn put(&mut self, subject: &Subject, object: Value) {
        match subject {
            Subject::Nodes => self.put_node(&object),
            Subject::Records => {
                let changed = self.records.put(&object);
                self.look |= changed;
                self.touch(changed);
            }
            Subject::Kind(api_version, kind) => self.put_object(api_version, kind, object),
            Subject::Stray(named) => {
                let (api_version, kind) = (named.api_version.clone(), named.kind.clone());
                self.put_object(&api_version, &kind, object);
            }
        }
    }

    /// A watch says that an object is gone, or has left its selector.
    pub(crate) fn left(&mut self, subject: &Subject, object: &Value) {
        let Some(meta) = meta_of(object) else {
            return;
        };
        match subject {
            Subject::Nodes => {
                let gone = self.nodes.remove(&meta.place.1).is_some();
                self.touch(gone);
            }
            Subject::Records => {
                let gone = self.records.remove(&meta.place.1);
                self.touch(gone);
            }
            Subject::Kind(api_version, kind) => {
                self.kind(api_version, kind).pending.insert(meta.place);
                self.look = true;
                self.touch(true);
            }
            Subject::Stray(named) => self.gone(named, Some(&meta.uid)),
        }
    }

    fn put_node(&mut self, object: &Value) {
        let Some(meta) = meta_of(object) else {
            return;
        };
        let name = meta.place.1;
        let fact = node::fact_of(object);
        match self.nodes.get(&name) {
            Some((known, _)) if !is_newer(&meta.version, known) => {}
            // A Node's status moves every few minutes without saying anything new.
            Some((_, before)) if *before == fact => {
                self.nodes.insert(name, (meta.version, fact));
            }
            _ => {
                self.nodes.insert(name, (meta.version, fact));
                self.touch(true);
            }
        }
    }

    fn put_object(&mut self, api_version: &str, kind: &str, mut object: Value) {
        let Some(meta) = meta_of(&object) else {
            return;
        };
        drop_managed_fields(&mut object);
        // Items of a list come without.
        if let Some(fields) = object.as_object_mut() {
            fields.insert("apiVersion".to_owned(), api_version.into());
            fields.insert("kind".to_owned(), kind.into());
        }
        let cache = self.kind(api_version, kind);
        if let Some(known) = cache.objects.get(&meta.place)
            && known.uid == meta.uid
            && !is_newer(&meta.version, &known.version)
        {
            return;
        }
        let was_pending = cache.pending.remove(&meta.place);
        cache.absent.retain(|(place, _)| *place != meta.place);
        let cached = Cached {
            version: meta.version,
            uid: meta.uid,
            labelled: meta.labelled,
            json: Arc::new(object),
        };
        let changed = match cache.objects.get(&meta.place) {
            Some(before) => !same_but_version(&before.json, &cached.json),
            None => true,
        };
        cache.objects.insert(meta.place, cached);
        self.touch(changed || was_pending);
    }

    /// An object that was asked for by name does not exist (`uid`: the one that is
    /// gone; another of the same name stays).
    pub(crate) fn gone(&mut self, object: &ObjectRef, uid: Option<&str>) {
        let place = (object.namespace.clone(), object.name.clone());
        let cache = self.kind(&object.api_version, &object.kind);
        let mut changed = cache.pending.remove(&place);
        let is_that = cache
            .objects
            .get(&place)
            .is_some_and(|known| uid.is_none_or(|uid| known.uid == uid));
        if is_that && let Some(known) = cache.objects.remove(&place) {
            cache.absent.insert((place, known.uid));
            changed = true;
        }
        self.touch(changed);
    }

    /// The answer to asking for an object by name.
    pub(crate) fn resolved(&mut self, wanted: &Lookup, found: Option<Value>) {
        let object = &wanted.object;
        let place = (object.namespace.clone(), object.name.clone());
        let uid = wanted.uid.clone();
        match found {
            Some(live) => {
                self.put_object(&object.api_version, &object.kind, live);
                let cache = self.kind(&object.api_version, &object.kind);
                cache.pending.remove(&place);
                // Same name, other object: the one that the inventory means is gone.
                let other = cache.objects.get(&place).map(|known| &known.uid) != uid.as_ref();
                if let (true, Some(uid)) = (other, uid) {
                    cache.absent.insert((place, uid));
                }
            }
            None => {
                // If it is not pending any more, the watch has shown it again since.
                let cache = self.kind(&object.api_version, &object.kind);
                if cache.pending.contains(&place) {
                    self.gone(object, None);
                }
                if let Some(uid) = uid {
                    self.gone(object, Some(&uid));
                    let cache = self.kind(&object.api_version, &object.kind);
                    cache.absent.insert((place, uid));
                }
            }
        }
        self.touch(true);
    }

    /// Objects that must be asked for by name: those that left a selector, and those
    /// that an inventory names and no watch shows.
    pub(crate) fn lookups(&self) -> Vec<Lookup> {
        let mut wanted = BTreeMap::new();
        for ((api_version, kind), cache) in &self.kinds {
            for place in &cache.pending {
                let object = reference(api_version, kind, place);
                wanted.insert(object, None);
            }
        }
        for (_, inventory) in self.records.inventories() {
            for entry in &inventory.entries {
                if let Some(uid) = self.unseen(entry) {
                    wanted.insert(entry.object.clone(), Some(uid));
                }
            }
        }
        wanted
            .into_iter()
            .map(|(object, uid)| Lookup { object, uid })
            .collect()
    }

    /// True once after anything that may have made [`Cache::lookups`] longer.
    pub(crate) fn take_look(&mut self) -> bool {
        std::mem::take(&mut self.look)
    }

    /// The UID of an inventory's object that nothing was heard of. An entry without
    /// a UID was not created as far as anybody knows, and if it was, it has our label.
    fn unseen(&self, entry: &InventoryEntry) -> Option<String> {
        let uid = entry.uid.clone()?;
        let object = &entry.object;
        let kind = (object.api_version.clone(), object.kind.clone());
        let cache = self.kinds.get(&kind)?;
        let place = (object.namespace.clone(), object.name.clone());
        if cache
            .objects
            .get(&place)
            .is_some_and(|known| known.uid == uid)
        {
            return None;
        }
        let known_absent = cache.absent.contains(&(place, uid.clone()));
        (!known_absent).then_some(uid)
    }

    /// Objects without our label: each is watched by name.
    pub(crate) fn strays(&self) -> Vec<ObjectRef> {
        let mut strays = Vec::new();
        for ((api_version, kind), cache) in &self.kinds {
            for (place, cached) in &cache.objects {
                if !cached.labelled && !cache.pending.contains(place) {
                    strays.push(reference(api_version, kind, place));
                }
            }
        }
        strays
    }

    /// All live objects.
    pub(crate) fn objects(&self) -> BTreeMap<ObjectRef, LiveObject> {
        let mut objects = BTreeMap::new();
        for ((api_version, kind), cache) in &self.kinds {
            for (place, cached) in &cache.objects {
                let object = reference(api_version, kind, place);
                let live = LiveObject {
                    object: object.clone(),
                    uid: cached.uid.clone(),
                    json: Arc::clone(&cached.json),
                };
                objects.insert(object, live);
            }
        }
        objects
    }

    /// The kind is not served (any more): none of its objects can exist.
    pub(crate) fn kind_not_served(&mut self, api_version: &str, kind: &str) {
        let key = (api_version.to_owned(), kind.to_owned());
        let cache = self.kinds.entry(key).or_default();
        let any = !cache.objects.is_empty();
        for (place, cached) in std::mem::take(&mut cache.objects) {
            cache.absent.insert((place, cached.uid));
        }
        cache.pending.clear();
        self.look = true;
        self.touch(any);
    }

    fn kind(&mut self, api_version: &str, kind: &str) -> &mut KindCache {
        let key = (api_version.to_owned(), kind.to_owned());
        self.kinds.entry(key).or_default()
    }

    fn touch(&mut self, changed: bool) {
        if changed {
            self.change += 1;
        }
    }
}

/// An object to ask for by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lookup {
    pub(crate) object: ObjectRef,
    /// The UID that an inventory has for it.
    pub(crate) uid: Option<String>,
}

fn reference(api_version: &str, kind: &str, place: &Place) -> ObjectRef {
    ObjectRef {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        namespace: place.0.clone(),
        name: place.1.clone(),
    }
}

#[cfg(test)]
mod tests;
