//! One watch, for ever: list, watch from there, resume where the stream ended, list
//! again when the server has forgotten the place (410). Bookmarks are on, so an
//! idle kind costs one request in five minutes.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, timeout};
use trueup_model::facts::object::APPLICATION_LABEL;

use super::answer::{Quote, Status};
use super::cache::Subject;
use super::caller::Call;
use super::hub::{FeedState, Hub, SILENCE_MAX};
use super::record::NAMESPACE;
use super::resource::{NoResource, Resource, encoded};
use super::wire::Fault;

/// The server ends a watch after so long; below the five minutes after which load
/// balancers and the API server itself cut idle connections.
const WATCH_S: u64 = 290;
/// Objects in one page of a list.
const PAGE: usize = 500;
/// First pause after a failure, doubled up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// Longest pause: a cluster that is back is seen within this.
const PAUSE_MAX: Duration = Duration::from_secs(20);
/// Pause before a kind that is not served is looked for again.
const NOT_SERVED_PAUSE: Duration = Duration::from_secs(30);

/// Why a round ended.
#[derive(Debug)]
enum End {
    /// The stream ended as it should; resume.
    Expired,
    /// The server has forgotten the place; list again.
    Gone,
    /// The kind is not served.
    NotServed(String),
    /// It failed.
    Failed(Fault, String),
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    object: Value,
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(default)]
    items: Option<Vec<Value>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListMeta {
    resource_version: String,
    r#continue: String,
}

/// Watch a subject until the hub stops. A stray's watch also ends when the object is
/// gone or has its label back.
pub(crate) fn spawn(hub: &Arc<Hub>, subject: Subject) {
    let fresh = hub.change(|state| {
        if state.feeds.contains_key(&subject) {
            return false;
        }
        let feed = FeedState {
            in_step: false,
            not_served: false,
            heard: None,
            failure: None,
            attempts: 0,
        };
        state.feeds.insert(subject.clone(), feed);
        true
    });
    if !fresh {
        return;
    }
    let hub = Arc::clone(hub);
    tokio::spawn(async move {
        let stop = hub.stop.clone();
        let feed = Feed {
            hub,
            subject,
            version: None,
        };
        stop.run_until_cancelled(feed.run()).await;
    });
}

struct Feed {
    hub: Arc<Hub>,
    subject: Subject,
    /// Where to resume.
    version: Option<String>,
}

impl Feed {
    async fn run(mut self) {
        let mut pause = PAUSE_MIN;
        loop {
            let begun = Instant::now();
            let end = self.round().await;
            if self.is_over() {
                self.hub.change(|state| {
                    state.feeds.remove(&self.subject);
                });
                return;
            }
            match end {
                End::Expired if begun.elapsed() > PAUSE_MAX => {
                    pause = PAUSE_MIN;
                    continue;
                }
                End::Expired => {}
                End::Gone => self.version = None,
                End::NotServed(why) => {
                    self.version = None;
                    self.not_served(why);
                    self.wait_for_kind().await;
                    continue;
                }
                End::Failed(fault, why) => self.failed(fault, why),
            }
            tokio::time::sleep(jittered(pause, &self.subject, begun)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// A lone object is watched only while it lacks our label.
    fn is_over(&self) -> bool {
        let Subject::Stray(object) = &self.subject else {
            return false;
        };
        !self.hub.read().cache.strays().contains(object)
    }

    /// List if need be, then watch until the stream ends.
    async fn round(&mut self) -> End {
        let resource = match self.resource().await {
            Ok(resource) => resource,
            Err(end) => return end,
        };
        let version = match self.version.clone() {
            Some(version) => version,
            None => match self.list(&resource).await {
                Ok(version) => version,
                Err(end) => return end,
            },
        };
        self.version = Some(version.clone());
        self.watch(&resource, &version).await
    }

    async fn resource(&self) -> Result<Resource, End> {
        let (api_version, kind) = match &self.subject {
            Subject::Nodes => ("v1", "Node"),
            Subject::Records => ("v1", "ConfigMap"),
            Subject::Kind(api_version, kind) => (api_version.as_str(), kind.as_str()),
            Subject::Stray(object) => (object.api_version.as_str(), object.kind.as_str()),
        };
        let built_in = |plural: &str, namespaced| Resource {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
            namespaced,
        };
        match &self.subject {
            Subject::Nodes => return Ok(built_in("nodes", false)),
            Subject::Records => return Ok(built_in("configmaps", true)),
            Subject::Kind(..) | Subject::Stray(_) => {}
        }
        let hub = &self.hub;
        hub.resources
            .find(&hub.caller, api_version, kind)
            .await
            .map_err(|no| match no {
                NoResource::NotThere(why) => End::NotServed(why),
                NoResource::Fault(fault) => failed(fault),
                NoResource::Status(status) => refused(&status),
            })
    }

    /// Path and selector of the subject, with `more` query parts.
    fn path(&self, resource: &Resource, more: &str) -> String {
        match &self.subject {
            Subject::Nodes => format!("{}?{more}", resource.all()),
            Subject::Records => format!("{}?{more}", resource.collection(NAMESPACE)),
            Subject::Kind(..) => {
                let selector = encoded(APPLICATION_LABEL);
                format!("{}?labelSelector={selector}&{more}", resource.all())
            }
            Subject::Stray(object) => {
                let selector = encoded(&format!("metadata.name={}", object.name));
                let path = resource.collection(&object.namespace);
                format!("{path}?fieldSelector={selector}&{more}")
            }
        }
    }

    /// The whole list, page by page, into the cache; where to watch from.
    async fn list(&self, resource: &Resource) -> Result<String, End> {
        let mut items = Vec::new();
        let mut next = String::new();
        loop {
            let mut more = format!("limit={PAGE}");
            if !next.is_empty() {
                more = format!("{more}&continue={}", encoded(&next));
            }
            let call = Call::get(self.path(resource, &more));
            let reply = self.hub.caller.call(&call).await.map_err(failed)?;
            match reply.code {
                200 => {}
                404 => {
                    self.hub
                        .resources
                        .forget(&resource.api_version, &resource.kind);
                    return Err(End::NotServed(Status::of(&reply).text(Quote::Yes)));
                }
                410 => return Err(End::Gone),
                _ => return Err(refused(&Status::of(&reply))),
            }
            let list: List = serde_json::from_slice(&reply.body).map_err(|error| {
                let why = format!("a list is not understood: {error}");
                End::Failed(Fault::Lost(why.clone()), why)
            })?;
            items.extend(list.items.unwrap_or_default());
            if list.metadata.r#continue.is_empty() {
                let version = list.metadata.resource_version;
                self.listed(items);
                return Ok(version);
            }
            next = list.metadata.r#continue;
        }
    }

    async fn watch(&mut self, resource: &Resource, version: &str) -> End {
        let more = format!(
            "watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_S}&resourceVersion={}",
            encoded(version)
        );
        let call = Call::get(self.path(resource, &more));
        let mut lines = match self.hub.caller.lines(&call).await {
            Ok(Ok(lines)) => lines,
            Ok(Err(reply)) if reply.code == 410 => return End::Gone,
            Ok(Err(reply)) if reply.code == 404 => {
                self.hub
                    .resources
                    .forget(&resource.api_version, &resource.kind);
                return End::NotServed(Status::of(&reply).text(Quote::Yes));
            }
            Ok(Err(reply)) => return refused(&Status::of(&reply)),
            Err(fault) => return failed(fault),
        };
        self.heard();
        loop {
            let line = match timeout(SILENCE_MAX, lines.next()).await {
                Ok(Ok(Some(line))) => line,
                Ok(Ok(None)) => return End::Expired,
                // A cut stream is resumed from the last event, like an ended one; if
                // the server is away, the next round says so.
                Ok(Err(fault)) => {
                    tracing::debug!(subject = ?self.subject, why = fault.why(), "watch cut");
                    return End::Expired;
                }
                Err(_) => {
                    let why = "the watch was silent for too long".to_owned();
                    return End::Failed(Fault::Lost(why.clone()), why);
                }
            };
            let Ok(event) = serde_json::from_slice::<Event>(&line) else {
                // The end of a stream may cut a line; what it said comes again.
                return End::Expired;
            };
            if let Some(end) = self.take(event) {
                return end;
            }
            if self.is_over() {
                return End::Expired;
            }
        }
    }

    /// One event; `Some` if it ends the watch.
    fn take(&mut self, event: Event) -> Option<End> {
        let version = event
            .object
            .get("metadata")
            .and_then(|metadata| metadata.get("resourceVersion"))
            .and_then(Value::as_str)
            .map(str::to_owned);
        if event.kind == "ERROR" {
            let status: Status = serde_json::from_value(event.object).unwrap_or_default();
            return Some(match status.code {
                410 => End::Gone,
                _ => refused(&status),
            });
        }
        if let Some(version) = version {
            self.version = Some(version);
        }
        let subject = &self.subject;
        self.hub.change(|state| {
            if let Some(feed) = state.feeds.get_mut(subject) {
                feed.heard = Some(Instant::now());
            }
            match event.kind.as_str() {
                "ADDED" | "MODIFIED" => state.cache.put(subject, event.object),
                "DELETED" => state.cache.left(subject, &event.object),
                _ => {}
            }
        });
        None
    }

    fn listed(&self, items: Vec<Value>) {
        let subject = &self.subject;
        self.hub.change(|state| {
            state.cache.replace(subject, items);
            if let Some(feed) = state.feeds.get_mut(subject) {
                feed.in_step = true;
                feed.not_served = false;
                feed.failure = None;
                feed.heard = Some(Instant::now());
                feed.attempts += 1;
            }
        });
    }

    fn heard(&self) {
        let subject = &self.subject;
        self.hub.change(|state| {
            if let Some(feed) = state.feeds.get_mut(subject) {
                let was_blind = feed.failure.take().is_some();
                feed.heard = Some(Instant::now());
                if was_blind {
                    state.cache.change += 1;
                }
            }
        });
    }

    fn failed(&self, fault: Fault, why: String) {
        tracing::debug!(subject = ?self.subject, why, "watch failed");
        let subject = &self.subject;
        self.hub.change(|state| {
            if let Some(feed) = state.feeds.get_mut(subject) {
                feed.failure = Some((fault, why));
                feed.attempts += 1;
            }
        });
    }

    fn not_served(&self, why: String) {
        let subject = &self.subject;
        self.hub.change(|state| {
            if let Subject::Kind(api_version, kind) = subject {
                state.cache.kind_not_served(api_version, kind);
            }
            if let Some(feed) = state.feeds.get_mut(subject) {
                feed.not_served = true;
                feed.in_step = false;
                feed.failure = Some((Fault::NotSent(why.clone()), why));
                feed.attempts += 1;
            }
        });
    }

    /// Until the kind is known (an apply of ours found it) or some time has passed.
    async fn wait_for_kind(&self) {
        let Subject::Kind(api_version, kind) = &self.subject else {
            tokio::time::sleep(NOT_SERVED_PAUSE).await;
            return;
        };
        let known = async {
            loop {
                let progress = self.hub.progress.notified();
                if self.hub.resources.known(api_version, kind).is_some() {
                    return;
                }
                progress.await;
            }
        };
        // Whether it came or the time is over, the next round looks.
        let _ended = timeout(NOT_SERVED_PAUSE, known).await;
    }
}

fn failed(fault: Fault) -> End {
    let why = fault.why().to_owned();
    End::Failed(fault, why)
}

fn refused(status: &Status) -> End {
    let why = format!("{} {}", status.code, status.text(Quote::Yes));
    End::Failed(Fault::Lost(why.clone()), why)
}

/// A pause between half and the whole of `pause`: watches that were cut together
/// must not come back together. The spread comes from the subject and the clock.
fn jittered(pause: Duration, subject: &Subject, now: Instant) -> Duration {
    use std::hash::{Hash as _, Hasher as _};
    let mut hasher = std::collections::hash_map::DefaultHasher::new();
    subject.blind_key().hash(&mut hasher);
    now.hash(&mut hasher);
    let share = u32::try_from(hasher.finish() % 512).unwrap_or(0);
    pause / 2 + pause / 1024 * share
}
