//! The members of a cluster: k3s installed, started, joined and restarted. What is
//! proposed here is judged by the gates of quorum, order and availability.

use std::collections::{BTreeMap, BTreeSet};

use trueup_model::facts::machine::{Datastore, FileFact, MachineFacts};
use trueup_model::id::NodeName;
use trueup_model::kinds::Role;

use super::machine::{Standing, standing};
use super::{Context, WaitKind, k3s, names};
use crate::desired::{DesiredCluster, DesiredMachine, DesiredUnit};
use crate::k3s::config::{self, Entry};
use crate::k3s::given;
use crate::observed::SeenUnit;
use crate::round::Draft;

/// Plan k3s on every machine of the unit.
pub(crate) fn plan(draft: &mut Draft, desired: &DesiredUnit, seen: &SeenUnit, context: &Context) {
    let Some(cluster) = &desired.cluster else {
        return;
    };
    if let Some(server) = sealed(desired, cluster, seen) {
        draft.wait(
            format!("{}:token", cluster.name),
            WaitKind::Broken,
            format!(
                "the token differs from the one that {server} holds the cluster's data with [{}]; k3s does not start with another one: commit the old token again",
                cluster.origin
            ),
        );
        return;
    }
    let entries = entries(desired, seen);
    for machine in desired.machines.values() {
        let Some(facts) = seen.machine(&machine.name) else {
            continue;
        };
        if !matches!(
            standing(machine, facts, context),
            Standing::Ours | Standing::Blank
        ) {
            continue;
        }
        match entry(machine, facts, &entries) {
            Ok(entry) => k3s::plan(draft, (cluster, machine), facts, &entry, seen),
            Err(why) => draft.wait(format!("{}:k3s", machine.name), WaitKind::Unknown, why),
        }
    }
}

/// A server with data whose token is another one than is wanted now. The token is the
/// key of the data (k3s: cluster/storage.go, "encrypted with different token"): no
/// configuration changes it, and a server that is started with another one stays down.
/// Where the wanted one lies on the machine already, somebody rotated it there.
fn sealed<'a>(
    desired: &'a DesiredUnit,
    cluster: &DesiredCluster,
    seen: &SeenUnit,
) -> Option<&'a NodeName> {
    let wanted = &cluster.token.as_ref().ok()?.sha256;
    let server = desired.servers().find(|server| {
        let Some(facts) = seen.machine(&server.name) else {
            return false;
        };
        let record = facts.owner.as_ref();
        let written = record.and_then(|record| record.files.get(crate::paths::TOKEN_PATH));
        let live = facts.files.get(crate::paths::TOKEN_PATH);
        facts.k3s.datastore != Datastore::None
            && written.is_some_and(|written| written != wanted)
            && !matches!(live, Some(FileFact::Present { sha256, .. }) if sha256 == wanted)
    })?;
    Some(&server.name)
}

/// What the servers say about where the cluster is.
struct Entries {
    /// Servers with a datastore, with the URL to join through, in name order.
    alive: Vec<(NodeName, String)>,
    /// The one to begin with, if the cluster does not exist.
    first: Option<NodeName>,
    /// URLs of declared servers.
    urls: BTreeSet<String>,
    /// Servers that could not be looked at.
    dark: Vec<NodeName>,
}

fn entries(desired: &DesiredUnit, seen: &SeenUnit) -> Entries {
    let mut found = Entries {
        alive: Vec::new(),
        first: desired.servers().next().map(|server| server.name.clone()),
        urls: desired.servers().map(config::join_url).collect(),
        dark: Vec::new(),
    };
    for server in desired.servers() {
        match seen.machine(&server.name) {
            None => found.dark.push(server.name.clone()),
            Some(facts) if facts.k3s.datastore != Datastore::None => {
                found
                    .alive
                    .push((server.name.clone(), config::join_url(server)));
            }
            Some(_) => {}
        }
    }
    found
}

/// How a machine comes in. What it began with stays, for as long as it points at a
/// declared server. A blank server never begins a cluster while another server
/// cannot be looked at: it might hold the data.
fn entry(
    machine: &DesiredMachine,
    facts: &MachineFacts,
    entries: &Entries,
) -> Result<Entry, String> {
    let own_url = config::join_url(machine);
    let is_server = config::is_server(machine);
    let member = is_server && facts.k3s.datastore == Datastore::Etcd;
    match current(facts) {
        Some(Entry::Begin) if member => return Ok(Entry::Begin),
        Some(Entry::Join(url)) if entries.urls.contains(&url) && url != own_url => {
            return Ok(Entry::Join(url));
        }
        Some(Entry::Begin | Entry::Join(_)) | None => {}
    }
    if is_server && entries.first.as_ref() == Some(&machine.name) {
        if member {
            return Ok(Entry::Begin);
        }
        if entries.alive.is_empty() {
            if entries.dark.is_empty() {
                return Ok(Entry::Begin);
            }
            return Err(format!(
                "{} cannot be looked at and may hold the cluster's data: a new cluster is begun only when every server was seen without",
                names(&entries.dark)
            ));
        }
    }
    // Before the first server has data, its URL is known already.
    let url = entries
        .alive
        .iter()
        .find(|(name, _)| *name != machine.name)
        .map(|(_, url)| url.clone())
        .or_else(|| first_url(entries, &own_url));
    url.map(Entry::Join)
        .ok_or_else(|| "there is no server to join".to_owned())
}

fn first_url(entries: &Entries, own: &str) -> Option<String> {
    entries.urls.iter().find(|url| url.as_str() != own).cloned()
}

/// How the machine entered, by the configuration that it has.
fn current(facts: &MachineFacts) -> Option<Entry> {
    let written = match facts.files.get(crate::paths::CONFIG_PATH) {
        Some(FileFact::Present {
            content: Some(text),
            ..
        }) => config::entry_of(text),
        Some(FileFact::Present { content: None, .. } | FileFact::Absent | FileFact::Other(_))
        | None => None,
    };
    written.or_else(|| {
        // Another installer says it to the process itself.
        let mut started = facts.k3s.started.values();
        let given = given::given(started.next()?, &BTreeMap::new(), &[]);
        let url = given.get("server").and_then(|values| values.last());
        url.map(|url| Entry::Join(url.clone()))
    })
}

/// Role of a machine; machines of a cluster always have one.
pub(crate) fn role(machine: &DesiredMachine) -> Option<Role> {
    machine.k3s.as_ref().map(|k3s| k3s.role)
}

/// True if a machine's k3s is up as far as systemd knows.
pub(crate) fn runs(machine: &DesiredMachine, facts: &MachineFacts, _: &DesiredCluster) -> bool {
    role(machine)
        .and_then(|role| facts.units.get(crate::k3s::unit::name(role)))
        .is_some_and(|unit| unit.active == "active")
}
