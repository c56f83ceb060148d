//! Declared objects beside the live ones. What trueup applied before is compared
//! locally with its baseline; what is new is asked of the server by dry run, once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream;
use serde_json::Value;
use trueup_core::desired::{DesiredObject, DesiredUnit};
use trueup_core::drift::{Baseline, FieldDrift};
use trueup_core::observed::Compared;
use trueup_model::facts::cluster::{ClusterFacts, InventoryEntry};
use trueup_model::facts::object::{
    APPLICATION_LABEL, CREATION_MARK, FIELD_MANAGER, LiveObject, ObjectRef,
};
use trueup_model::id::{AppName, ClusterName};
use trueup_model::port::store::{Recorded, Store};
use trueup_model::port::{ApplyRefusal, ClusterApi, Force};

use super::vault::Vault;

/// Dry runs at the same time, per cluster: enough to hide the latency, and far from
/// what an API server calls too many.
const DRY_RUNS_MAX: usize = 8;

/// Compares objects, and remembers what dry runs said.
#[derive(Debug)]
pub(crate) struct Comparer {
    cluster: Option<ClusterName>,
    vault: Arc<Vault>,
    store: Arc<dyn Store>,
    /// Nothing is recorded: what is compared is not what is tracked.
    only_looking: bool,
    /// What a dry run said, for this rendered digest on this live resourceVersion.
    said: Mutex<BTreeMap<String, (String, Compared)>>,
}

/// The store's key of an object.
pub(crate) fn key(object: &ObjectRef) -> String {
    let (group, kind, namespace, name) = object.key();
    format!("{group}/{kind}/{namespace}/{name}")
}

/// What is sent: the object, with the creation mark unless it stood before us.
pub(crate) fn outgoing(wanted: &DesiredObject, adopted: bool, mark: &str) -> Value {
    let mut json = wanted.json.as_ref().clone();
    if adopted {
        return json;
    }
    if let Some(metadata) = json.get_mut("metadata").and_then(Value::as_object_mut) {
        let annotations = metadata
            .entry("annotations")
            .or_insert_with(|| Value::Object(serde_json::Map::new()));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert(CREATION_MARK.to_owned(), mark.into());
        }
    }
    json
}

/// What is asked of an object that stood before us: without our label, which would be
/// a write to it.
pub(crate) fn unmarked(wanted: &DesiredObject) -> Value {
    let mut json = wanted.json.as_ref().clone();
    if let Some(metadata) = json.get_mut("metadata").and_then(Value::as_object_mut)
        && let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut)
    {
        labels.remove(APPLICATION_LABEL);
        if labels.is_empty() {
            metadata.remove("labels");
        }
    }
    json
}

/// One object and everything that is known of it.
struct Pair<'a> {
    object: &'a ObjectRef,
    wanted: &'a DesiredObject,
    live: Option<&'a LiveObject>,
    entry: Option<&'a InventoryEntry>,
    recorded: Option<&'a Recorded>,
}

impl Comparer {
    /// A comparer for one cluster.
    pub(crate) fn new(
        cluster: Option<&ClusterName>,
        vault: Arc<Vault>,
        store: Arc<dyn Store>,
    ) -> Self {
        Self {
            cluster: cluster.cloned(),
            vault,
            store,
            only_looking: false,
            said: Mutex::default(),
        }
    }

    /// A comparer that records nothing: for a commit that is not the tip.
    pub(crate) fn only_looking(
        cluster: Option<&ClusterName>,
        vault: Arc<Vault>,
        store: Arc<dyn Store>,
    ) -> Self {
        Self {
            only_looking: true,
            ..Self::new(cluster, vault, store)
        }
    }

    /// Kinds that must be watched for these Applications.
    pub(crate) fn kinds(&self, desired: &DesiredUnit) -> Vec<(String, String)> {
        let mut kinds: Vec<(String, String)> = desired
            .apps
            .values()
            .flat_map(|app| app.objects.keys())
            .map(|object| (object.api_version.clone(), object.kind.clone()))
            .collect();
        kinds.sort();
        kinds.dedup();
        kinds
    }

    /// Compare every declared object.
    pub(crate) async fn compare(
        &self,
        api: &dyn ClusterApi,
        desired: &DesiredUnit,
        facts: &ClusterFacts,
    ) -> BTreeMap<(AppName, ObjectRef), Compared> {
        let recorded: BTreeMap<String, Recorded> = self
            .cluster
            .as_ref()
            .and_then(|cluster| self.store.baselines(cluster).ok())
            .unwrap_or_default()
            .into_iter()
            .collect();
        let mark = facts.owner.as_ref().map_or("", |owner| owner.id.as_str());
        let mut work: Vec<BoxFuture<'_, ((AppName, ObjectRef), Compared)>> = Vec::new();
        for app in desired.apps.values().filter(|app| !app.removed) {
            let inventory = facts.inventories.get(&app.name);
            for (object, wanted) in &app.objects {
                let pair = Pair {
                    object,
                    wanted,
                    live: facts.objects.get(object),
                    entry: inventory.and_then(|inventory| {
                        let mut entries = inventory.entries.iter();
                        entries.find(|entry| entry.object.key() == object.key())
                    }),
                    recorded: recorded.get(&key(object)),
                };
                let at = (app.name.clone(), object.clone());
                work.push(Box::pin(async move {
                    (at, self.one(api, facts, mark, pair).await)
                }));
            }
        }
        stream::iter(work)
            .buffer_unordered(DRY_RUNS_MAX)
            .collect()
            .await
    }

    async fn one(
        &self,
        api: &dyn ClusterApi,
        facts: &ClusterFacts,
        mark: &str,
        pair: Pair<'_>,
    ) -> Compared {
        let kind = format!("{} {}", pair.object.api_version, pair.object.kind);
        if let Some(why) = facts.blind.get(&kind)
            && pair.live.is_none()
            && pair.recorded.is_some()
        {
            return Compared::Unknown(why.clone());
        }
        let settled = pair
            .recorded
            .filter(|recorded| recorded.rendered == pair.wanted.digest);
        match (settled, pair.live) {
            (Some(recorded), Some(live)) => match self.local(&pair, recorded, live) {
                Some(compared) => compared,
                None => self.asked(api, mark, &pair).await,
            },
            (Some(_), None) => Compared::Missing,
            (None, _) => self.asked(api, mark, &pair).await,
        }
    }

    /// Compare with the baseline; `None`: the record cannot be read and is made anew.
    fn local(&self, pair: &Pair<'_>, recorded: &Recorded, live: &LiveObject) -> Option<Compared> {
        let baseline: Baseline = serde_json::from_str(&recorded.baseline).ok()?;
        let drift = baseline.drift(&live.json, self.vault.masking(pair.wanted.secret));
        Some(if drift.is_empty() {
            Compared::Same
        } else {
            Compared::Drifted(shown(&drift))
        })
    }

    async fn asked(&self, api: &dyn ClusterApi, mark: &str, pair: &Pair<'_>) -> Compared {
        let version = pair
            .live
            .and_then(|live| live.json.pointer("/metadata/resourceVersion"))
            .and_then(Value::as_str)
            .unwrap_or("none");
        let case = format!("{} {version} {}", pair.wanted.digest, pair.entry.is_some());
        let key = key(pair.object);
        if let Some((asked, compared)) = self.said().get(&key)
            && *asked == case
        {
            return compared.clone();
        }
        let compared = self.dry_run(api, mark, pair).await;
        // What may change without the object changing is asked again.
        if matches!(
            compared,
            Compared::Missing | Compared::Changed { .. } | Compared::Conflict(_)
        ) {
            self.said().insert(key, (case, compared.clone()));
        }
        compared
    }

    fn said(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, (String, Compared)>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn dry_run(&self, api: &dyn ClusterApi, mark: &str, pair: &Pair<'_>) -> Compared {
        let ours = pair.entry.is_some_and(|entry| !entry.adopted);
        let known = pair.entry.is_some();
        let json = outgoing(pair.wanted, !ours && pair.live.is_some(), mark);
        let mut answer = api.apply(&json, Force::No, true).await;
        let mut conflict = None;
        // A lost baseline of an object of ours is made anew with force: nothing is
        // written, and the difference to the live object is what is to be known.
        if known
            && pair.recorded.is_none()
            && let Err(refusal @ ApplyRefusal::Conflict(_)) = &answer
        {
            conflict = Some(refusal.to_string());
            answer = api.apply(&json, Force::Yes, true).await;
        }
        let answer = match answer {
            Ok(answer) => answer,
            Err(ApplyRefusal::Conflict(fields)) => {
                return Compared::Conflict(ApplyRefusal::Conflict(fields).to_string());
            }
            Err(ApplyRefusal::Invalid(why)) => return Compared::Invalid(why),
            Err(ApplyRefusal::NotYet(why)) => return Compared::NotYet(why),
            Err(ApplyRefusal::Forbidden(_)) => return self.unconfirmed(api, &json, pair).await,
            Err(ApplyRefusal::Later(why) | ApplyRefusal::Unknown(why)) => {
                return Compared::Unknown(why);
            }
        };
        if answer.created {
            return Compared::Missing;
        }
        let live = match pair.live {
            Some(live) => Some(live.clone()),
            None => match api.get(pair.object).await {
                Ok(live) => live,
                Err(error) => return Compared::Unknown(error.to_string()),
            },
        };
        let Some(live) = live else {
            return Compared::Missing;
        };
        let masking = self.vault.masking(pair.wanted.secret);
        let mut baseline = Baseline::from_answer(&answer.json, FIELD_MANAGER, masking);
        baseline.rebuilt = true;
        let mut fields = shown(&baseline.drift(&live.json, masking));
        if let Some(before) = self.before(pair) {
            fields.extend(
                before
                    .given_up(&baseline)
                    .iter()
                    .map(|path| format!("{path}: removed")),
            );
        }
        // Our own marks on an object that stood before us are no content of it.
        if !known {
            fields.retain(|field| !field.contains("trueup.dev/"));
        }
        if known && fields.is_empty() {
            self.remember(pair, &baseline);
        } else if let Some(why) = conflict {
            // Whose change this is, nobody knows any more: somebody must say so.
            return Compared::Conflict(format!(
                "{why}; it would change {}, and the record of what trueup applied is lost",
                fields.join(", ")
            ));
        }
        Compared::Changed {
            fields,
            confirmed: true,
            ours: known,
        }
    }

    fn before(&self, pair: &Pair<'_>) -> Option<Baseline> {
        serde_json::from_str(&pair.recorded?.baseline).ok()
    }

    /// A rebuilt baseline that the live object already meets.
    fn remember(&self, pair: &Pair<'_>, baseline: &Baseline) {
        let Some(cluster) = self.cluster.as_ref().filter(|_| !self.only_looking) else {
            return;
        };
        if let Err(error) = record(
            self.store.as_ref(),
            cluster,
            pair.object,
            &pair.wanted.digest,
            baseline,
        ) {
            tracing::warn!(object = %pair.object, %error, "the baseline is not recorded");
        }
    }

    /// Without the right to ask the server: every declared field against the live one.
    async fn unconfirmed(&self, api: &dyn ClusterApi, json: &Value, pair: &Pair<'_>) -> Compared {
        let live = match pair.live {
            Some(live) => Some(live.clone()),
            None => match api.get(pair.object).await {
                Ok(live) => live,
                Err(error) => return Compared::Unknown(error.to_string()),
            },
        };
        let Some(live) = live else {
            return Compared::Missing;
        };
        let mut fields = Vec::new();
        plain(
            json,
            &live.json,
            &mut String::new(),
            pair.wanted.secret,
            &mut fields,
        );
        Compared::Changed {
            fields,
            confirmed: false,
            ours: pair.entry.is_some(),
        }
    }
}

/// Record what an object is to be compared with from now on.
pub(crate) fn record(
    store: &dyn Store,
    cluster: &ClusterName,
    object: &ObjectRef,
    rendered: &trueup_model::id::Digest,
    baseline: &Baseline,
) -> Result<(), String> {
    let json = serde_json::to_string(baseline).map_err(|error| error.to_string())?;
    let recorded = Recorded {
        rendered: rendered.clone(),
        baseline: json,
        rebuilt: baseline.rebuilt,
    };
    store
        .put_baselines(&[(cluster.clone(), key(object), recorded)])
        .map_err(|error| error.to_string())
}

fn shown(drift: &[FieldDrift]) -> Vec<String> {
    drift.iter().map(ToString::to_string).collect()
}

/// Declared fields that are otherwise in the live object. Lists are compared by
/// position: without the server's word this is as good as it gets.
fn plain(wanted: &Value, live: &Value, path: &mut String, secret: bool, out: &mut Vec<String>) {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => {
            for (key, value) in wanted {
                let length = path.len();
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(key);
                plain(
                    value,
                    live.get(key).unwrap_or(&Value::Null),
                    path,
                    secret,
                    out,
                );
                path.truncate(length);
            }
        }
        (Value::Array(wanted), Value::Array(live)) if wanted.len() == live.len() => {
            for (index, (wanted, live)) in wanted.iter().zip(live).enumerate() {
                let length = path.len();
                path.push_str(&format!("[{index}]"));
                plain(wanted, live, path, secret, out);
                path.truncate(length);
            }
        }
        (wanted, live) if wanted == live => {}
        _ if secret => out.push(format!("{path}: <secret>")),
        (wanted, live) => out.push(format!("{path}: {live} (declared: {wanted})")),
    }
}
