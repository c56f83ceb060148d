//! The Kubernetes API of one cluster, reached through the machines' connections.
//!
//! HTTP/1.1 by hyper itself, not by kube's client: this room must know of every lost
//! reply whether the request left, must cap what it reads, and must never log a body,
//! and kube-client 5.0 logs replies that it cannot parse, reads watch lines of any
//! length, and hides the difference.
//!
//! It must never decide anything: what to apply, force or delete is said by the caller.

mod answer;
mod cache;
mod caller;
mod credential;
mod feed;
mod hub;
mod node;
mod object;
mod record;
mod resolver;
mod resource;
mod route;
mod wire;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretSlice;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use trueup_model::facts::cluster::{ClusterFacts, ClusterOwner, Inventory, RawTaint};
use trueup_model::facts::object::{Answer, LiveObject, ObjectRef};
use trueup_model::id::{AppName, ClusterName, NodeName};
use trueup_model::port::{ApplyRefusal, ClusterApi, ClusterError, Force, NodeShell};

use self::answer::{Quote, Status, error_of};
use self::cache::Subject;
use self::caller::{Call, Caller};
use self::hub::{Hub, State};
use self::route::Route;

/// Longest wait for the watches to come into step, and for objects that must be
/// asked for by name. What has not come by then is blind, and said to be.
const IN_STEP_LIMIT: Duration = Duration::from_secs(25);
/// Kinds that are watched at most: each costs a connection.
const KINDS_MAX: usize = 200;

/// What a cluster's API needs.
pub struct KubeSettings {
    /// Name of the cluster, for messages.
    pub cluster: ClusterName,
    /// Its servers, in the order in which they are tried.
    pub servers: Vec<(NodeName, Arc<dyn NodeShell>)>,
    /// A kubeconfig (its text) instead of the one of k3s on the servers.
    pub kubeconfig: Option<SecretSlice<u8>>,
    /// `HOST:PORT` that is dialled from here, before the servers are tried. Whether
    /// it may be is for the caller to check.
    pub endpoint: Option<String>,
}

impl std::fmt::Debug for KubeSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeSettings")
            .field("cluster", &self.cluster)
            .field("servers", &self.servers)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// The API of one cluster. Dropping it ends its watches.
#[derive(Debug)]
pub struct KubeApi {
    cluster: ClusterName,
    hub: Arc<Hub>,
    /// Versions of the inventories as the last `facts` showed them, or as our own
    /// write left them: what the optimistic lock compares.
    read: Mutex<BTreeMap<AppName, String>>,
    /// Change counter that the last `facts` showed.
    seen: Mutex<u64>,
}

impl KubeApi {
    /// Nothing is dialled yet.
    ///
    /// # Errors
    /// There is no server, or the given kubeconfig or endpoint cannot be used.
    pub fn new(settings: KubeSettings) -> Result<Self, ClusterError> {
        let cluster = settings.cluster;
        let route = Route::new(
            settings.servers,
            settings.kubeconfig,
            settings.endpoint.as_deref(),
        )
        .map_err(|fault| error_of(cluster.as_str(), "the route", fault))?;
        Ok(Self {
            cluster,
            hub: Arc::new(Hub::new(Caller::new(route))),
            read: Mutex::new(BTreeMap::new()),
            seen: Mutex::new(0),
        })
    }

    /// Wait until `done` says so of the state; false when the time is over.
    async fn wait(&self, until: Instant, done: impl Fn(&State) -> bool) -> bool {
        loop {
            let progress = self.hub.progress.notified();
            if done(&self.hub.read()) {
                return true;
            }
            if timeout_at(until, progress).await.is_err() {
                return false;
            }
        }
    }

    /// Nodes and records are the ground on which everything else is decided: without
    /// them there are no facts.
    fn ground(state: &State, cluster: &str) -> Result<(), ClusterError> {
        let blind = state.blind(Instant::now());
        for subject in [Subject::Nodes, Subject::Records] {
            let Some(why) = blind.get(&subject.blind_key()) else {
                continue;
            };
            let fault = state
                .feeds
                .get(&subject)
                .and_then(|feed| feed.failure.clone());
            let what = format!("watching {}", subject.blind_key());
            return Err(fault.map_or_else(
                || ClusterError::Unreachable {
                    cluster: cluster.to_owned(),
                    why: why.clone(),
                },
                |(fault, _)| error_of(cluster, &what, fault),
            ));
        }
        if let Some((name, why)) = state.cache.records.broken() {
            return Err(ClusterError::Refused {
                what: format!("reading ConfigMap trueup-system/{name}"),
                why: format!("it cannot be understood: {why}"),
            });
        }
        Ok(())
    }

    /// Open what is not open yet and wait until all of it is in step.
    async fn follow(&self, kinds: &[(String, String)]) -> Result<(), ClusterError> {
        let until = Instant::now() + IN_STEP_LIMIT;
        resolver::spawn_once(&self.hub);
        let ground = [Subject::Nodes, Subject::Records];
        for subject in &ground {
            feed::spawn(&self.hub, subject.clone());
        }
        self.wait(until, |state| settled(state, &ground)).await;
        Self::ground(&self.hub.read(), self.cluster.as_str())?;
        let mut wanted = wanted(&self.hub.read(), kinds);
        // What is left out here is blind, and said to be.
        wanted.truncate(KINDS_MAX);
        for subject in &wanted {
            feed::spawn(&self.hub, subject.clone());
        }
        self.wait(until, |state| settled(state, &wanted)).await;
        self.wait(until, |state| {
            state.cache.lookups().is_empty() || !state.unresolved.is_empty()
        })
        .await;
        Ok(())
    }

    fn snapshot(&self, kinds: &[(String, String)]) -> Result<ClusterFacts, ClusterError> {
        let state = self.hub.read();
        Self::ground(&state, self.cluster.as_str())?;
        let cache = &state.cache;
        let (owner, paused) = cache.records.owner();
        let mut blind = state.blind(Instant::now());
        for subject in wanted(&state, kinds) {
            if !state.feeds.contains_key(&subject) {
                let why = format!("more than {KINDS_MAX} kinds would have to be watched");
                blind.insert(subject.blind_key(), why);
            }
        }
        for lookup in cache.lookups() {
            let object = &lookup.object;
            blind
                .entry(format!("{} {}", object.api_version, object.kind))
                .or_insert_with(|| format!("{object} could not be asked for by name yet"));
        }
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = cache.records.versions();
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = cache.change;
        Ok(ClusterFacts {
            nodes: cache
                .nodes
                .iter()
                .map(|(name, (_, fact))| (name.clone(), fact.clone()))
                .collect(),
            nodes_unheard: state
                .feeds
                .get(&Subject::Nodes)
                .and_then(|feed| feed.failure.as_ref())
                .map(|(_, why)| why.clone()),
            inventories: cache
                .records
                .inventories()
                .map(|(app, inventory)| (app.clone(), inventory.clone()))
                .collect(),
            objects: cache.objects(),
            blind,
            cluster_scoped: kinds
                .iter()
                .filter(|(api_version, kind)| {
                    let known = self.hub.resources.known(api_version, kind);
                    known.is_some_and(|resource| !resource.namespaced)
                })
                .cloned()
                .collect(),
            owner: owner.cloned(),
            paused: paused.map(str::to_owned),
        })
    }
}

impl Drop for KubeApi {
    fn drop(&mut self) {
        self.hub.stop.cancel();
    }
}

/// Kinds of the inventories and those that were asked for.
fn wanted(state: &State, kinds: &[(String, String)]) -> Vec<Subject> {
    let mut wanted: BTreeSet<(String, String)> = kinds.iter().cloned().collect();
    for (_, inventory) in state.cache.records.inventories() {
        for entry in &inventory.entries {
            let object = &entry.object;
            wanted.insert((object.api_version.clone(), object.kind.clone()));
        }
    }
    wanted
        .into_iter()
        .map(|(api_version, kind)| Subject::Kind(api_version, kind))
        .collect()
}

/// Each of these watches has something to say: it is in step, or why it is not.
fn settled(state: &State, subjects: &[Subject]) -> bool {
    subjects.iter().all(|subject| {
        state
            .feeds
            .get(subject)
            .is_some_and(|feed| feed.in_step || feed.not_served || feed.failure.is_some())
    })
}

#[async_trait]
impl ClusterApi for KubeApi {
    async fn facts(&self, kinds: &[(String, String)]) -> Result<ClusterFacts, ClusterError> {
        self.follow(kinds).await?;
        self.snapshot(kinds)
    }

    async fn changed(&self) {
        let seen = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changes = self.hub.changes();
        // The sender lives in the hub, which lives as long as we do.
        let _closed = changes.wait_for(|change| *change != seen).await.is_err();
    }

    async fn ready(&self, server: &NodeName) -> Result<(), ClusterError> {
        let what = format!("/readyz of {server}");
        let hub = &self.hub;
        let target =
            hub.caller
                .route
                .target_of(server)
                .ok_or_else(|| ClusterError::Unreachable {
                    cluster: self.cluster.to_string(),
                    why: format!("{server} is not one of its servers"),
                })?;
        let reply = hub
            .caller
            .ask_server(target, &Call::get("/readyz"))
            .await
            .map_err(|fault| error_of(self.cluster.as_str(), &what, fault))?;
        if reply.code == 200 {
            return Ok(());
        }
        Err(Status::of(&reply).error(&what, Quote::Yes))
    }

    async fn apply(
        &self,
        object: &Value,
        force: Force,
        dry_run: bool,
    ) -> Result<Answer, ApplyRefusal> {
        object::apply(&self.hub, object, force, dry_run).await
    }

    async fn get(&self, object: &ObjectRef) -> Result<Option<LiveObject>, ClusterError> {
        object::get(&self.hub, self.cluster.as_str(), object).await
    }

    async fn delete(&self, object: &ObjectRef, uid: &str) -> Result<(), ClusterError> {
        object::delete(&self.hub, self.cluster.as_str(), object, uid).await
    }

    async fn write_inventory(
        &self,
        app: &AppName,
        inventory: &Inventory,
    ) -> Result<(), ClusterError> {
        let known = {
            let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
            read.get(app).cloned()
        };
        let writer = write::Writer {
            hub: &self.hub,
            cluster: self.cluster.as_str(),
        };
        let version = writer.inventory(app, inventory, known.as_deref()).await?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.insert(app.clone(), version);
        Ok(())
    }

    async fn write_owner(&self, owner: &ClusterOwner, take_over: bool) -> Result<(), ClusterError> {
        let writer = write::Writer {
            hub: &self.hub,
            cluster: self.cluster.as_str(),
        };
        writer.owner(owner, take_over).await
    }

    async fn set_labels(
        &self,
        node: &NodeName,
        labels: &BTreeMap<String, String>,
        force: Force,
    ) -> Result<(), ClusterError> {
        let writer = write::Writer {
            hub: &self.hub,
            cluster: self.cluster.as_str(),
        };
        writer.labels(node, labels, force).await
    }

    async fn set_taints(
        &self,
        node: &NodeName,
        before: &[RawTaint],
        after: &[RawTaint],
        owned: &str,
    ) -> Result<(), ClusterError> {
        let writer = write::Writer {
            hub: &self.hub,
            cluster: self.cluster.as_str(),
        };
        writer.taints(node, before, after, owned).await
    }
}
