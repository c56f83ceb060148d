//! What each server does about the members of etcd while it runs, most of it only as the leader's process.
//!
//! Promotion of learners, the condition EtcdIsVoter, removal on request (etcd/etcd.go, etcd/member_controller.go,
//! checked). k3s elects who removes by a Lease; here it is the process of etcd's leader.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::etcd::client::{Client, Member, Status};
use crate::kube::{Api, Patch, text};
use crate::log;
use crate::supervisor::State;

/// k3s looks for learners every 15 s.
const TICK_MS: u64 = 1000;
/// Ticks between two looks at the Nodes of members.
const NODES_EVERY: u32 = 3;
/// A learner that got nothing new for this long is removed.
const STALLED: Duration = Duration::from_mins(5);

const PREFIX: &str = "etcd.k3s.cattle.io";

struct Progress {
    index: u64,
    since: Instant,
}

fn tick() -> Duration {
    let given = std::env::var("DOUBLE_LEARNER_TICK_MS")
        .ok()
        .and_then(|text| text.parse().ok());
    Duration::from_millis(given.filter(|&ms| ms > 0).unwrap_or(TICK_MS))
}

/// Looks after the members for ever.
pub(crate) async fn look_after(state: Rc<State>, client: Client) {
    let mut ticks = tokio::time::interval(tick());
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut learners = BTreeMap::new();
    let mut count = 0_u32;
    loop {
        ticks.tick().await;
        count = count.wrapping_add(1);
        if let Err(error) = once(&state, &client, &mut learners, count).await {
            log::warn(format!("members of etcd: {error:#}"));
        }
    }
}

async fn once(
    state: &State,
    client: &Client,
    learners: &mut BTreeMap<u64, Progress>,
    count: u32,
) -> Result<()> {
    let status = client.status().await?;
    // A learner may not ask for the list.
    if status.leader == 0 || status.learner {
        return Ok(());
    }
    let members = client.members().await?;
    state.learn_servers(servers(&members))?;
    if status.leader != status.member {
        return Ok(());
    }
    for learner in members.iter().filter(|member| member.is_learner) {
        promote(state, client, learner, learners).await;
    }
    learners.retain(|id, _| {
        members
            .iter()
            .any(|member| member.id == *id && member.is_learner)
    });
    if count.is_multiple_of(NODES_EVERY) && state.api_ready.get() {
        nodes(&state.api, client, status, &members).await?;
    }
    Ok(())
}

/// `host:6443` of each member that has started.
fn servers(members: &[Member]) -> Vec<String> {
    members
        .iter()
        .filter_map(|member| member.client_urls.first())
        .filter_map(|url| {
            url.strip_prefix("https://")?
                .strip_suffix(":2379")
                .map(|host| format!("{host}:6443"))
        })
        .collect()
}

async fn promote(
    state: &State,
    client: &Client,
    learner: &Member,
    learners: &mut BTreeMap<u64, Progress>,
) {
    match client.promote(learner.id).await {
        Ok(()) => {
            log::info(format!(
                "Promoted learner {} to voting member",
                learner.name
            ));
            return;
        }
        Err(error) => log::info(format!(
            "Unable to promote learner {:?}: {error:#}",
            learner.name
        )),
    }
    let index = match Client::new(&state.layout, learner.client_urls.clone()) {
        Ok(own) => own.status().await.map_or(0, |status| status.raft_index),
        Err(_) => 0,
    };
    let progress = learners.entry(learner.id).or_insert_with(|| Progress {
        index,
        since: Instant::now(),
    });
    if index > progress.index {
        *progress = Progress {
            index,
            since: Instant::now(),
        };
    } else if progress.since.elapsed() > STALLED {
        log::warn(format!("Removing learner {:?}: no progress", learner.name));
        if let Err(error) = client.remove(learner.id).await {
            log::warn(format!(
                "Unable to remove learner {:?}: {error:#}",
                learner.name
            ));
        }
    }
}

async fn nodes(api: &Api, client: &Client, status: Status, members: &[Member]) -> Result<()> {
    let path =
        "/api/v1/nodes?labelSelector=node-role.kubernetes.io%2Fetcd%3Dtrue&resourceVersion=0";
    let list = api.get(path).await?.unwrap_or_default();
    for node in list
        .pointer("/items")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let annotation = |name: &str| {
            let annotations = node.pointer("/metadata/annotations");
            annotations
                .and_then(|all| all.get(format!("{PREFIX}/{name}")))
                .and_then(Value::as_str)
        };
        if annotation("remove") == Some("true") {
            remove(
                api,
                client,
                status,
                members,
                text(node, "/metadata/name"),
                annotation("node-name"),
            )
            .await?;
        } else {
            condition(api, node, annotation("node-name"), members).await?;
        }
    }
    Ok(())
}

/// Removes a member as its Node asks. A refusal takes only the request away; an unhealthy cluster is tried again.
async fn remove(
    api: &Api,
    client: &Client,
    status: Status,
    members: &[Member],
    node: &str,
    name: Option<&str>,
) -> Result<()> {
    let Some(name) = name else { return Ok(()) };
    let annotations = |value: Value| json!({"metadata": {"annotations": value}});
    let path = format!("/api/v1/nodes/{node}");
    if let Some(member) = members.iter().find(|member| member.name == name) {
        if member.id == status.member {
            let other = members
                .iter()
                .find(|other| other.id != member.id && !other.is_learner);
            if let Some(other) = other {
                // The new leader's process finds the same request.
                return client.move_leader(other.id).await.context("move leader");
            }
        }
        if let Err(error) = client.remove(member.id).await {
            log::warn(format!("Unable to remove etcd member {name}: {error:#}"));
            if format!("{error:#}").contains("unhealthy cluster") {
                return Ok(());
            }
            let patch = annotations(json!({format!("{PREFIX}/remove"): null}));
            return api.patch(&path, Patch::Merge, &patch).await.map(drop);
        }
        log::info(format!("Removed etcd member {name}"));
    }
    let patch = annotations(json!({
        format!("{PREFIX}/removed-node-name"): name,
        format!("{PREFIX}/remove"): null,
        format!("{PREFIX}/node-name"): null,
        format!("{PREFIX}/node-address"): null,
    }));
    api.patch(&path, Patch::Merge, &patch).await.map(drop)
}

async fn condition(api: &Api, node: &Value, name: Option<&str>, members: &[Member]) -> Result<()> {
    let member = name.and_then(|name| members.iter().find(|member| member.name == name));
    let (value, reason) = match member {
        Some(member) if member.is_learner => ("False", "MemberIsLearner"),
        Some(_) => ("True", "MemberNotLearner"),
        None => ("False", "NotAMember"),
    };
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
    let now_is = conditions
        .into_iter()
        .flatten()
        .find(|one| text(one, "/type") == "EtcdIsVoter");
    if now_is.is_some_and(|one| text(one, "/status") == value && text(one, "/reason") == reason) {
        return Ok(());
    }
    let now = jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string();
    let patch = json!({"status": {"conditions": [{
        "type": "EtcdIsVoter", "status": value, "reason": reason,
        "message": if value == "True" { "Node is a voting member of the etcd cluster" } else { "Node is not a voting member of the etcd cluster" },
        "lastHeartbeatTime": now, "lastTransitionTime": now,
    }]}});
    let path = format!("/api/v1/nodes/{}/status", text(node, "/metadata/name"));
    api.patch(&path, Patch::Strategic, &patch).await.map(drop)
}
