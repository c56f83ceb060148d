//! How a server gets into a cluster: configuration and keys from another server, then membership of etcd.
//!
//! Order and messages as in cluster/bootstrap.go and etcd/etcd.go (checked).

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::certs::Identity;
use crate::critical::Critical;
use crate::ending::Ending;
use crate::etcd::client::{Client, Member};
use crate::etcd::member::{self, Start};
use crate::layout::{self, Layout};
use crate::log;
use crate::remote::{Credential, Remote, User};

/// k3s waits this long for an API altogether.
pub(crate) const API_WAIT: Duration = Duration::from_mins(15);
const RETRY: Duration = Duration::from_secs(1);

/// Compares the critical values and takes over keys and passwords. The message is that of a fatal end.
pub(crate) async fn bootstrap(remote: &Remote, layout: &Layout, critical: &Critical) -> Result<()> {
    match remote
        .get("/v1-k3s/config", &Credential::Password(User::Node), &[])
        .await
    {
        Ok(text) => {
            let theirs: Critical = serde_json::from_str::<Value>(&text)
                .ok()
                .and_then(|value| value.get("Critical").cloned())
                .and_then(|value| serde_json::from_value(value).ok())
                .ok_or_else(|| anyhow!("the server's configuration is unreadable"))?;
            let differences = critical.differences(&theirs);
            for name in &differences {
                log::warn(format!("critical configuration mismatched: {name}"));
            }
            if !differences.is_empty() {
                bail!(
                    "failed to validate server configuration: critical configuration value mismatch between servers"
                );
            }
        }
        Err(error) => log::warn(format!(
            "Skipping cluster configuration validation: {error:#}"
        )),
    }
    let text = remote
        .get(
            "/v1-k3s/server-bootstrap",
            &Credential::Password(User::Server),
            &[],
        )
        .await?;
    let files: serde_json::Map<String, Value> =
        serde_json::from_str(&text).context("read bootstrap data")?;
    for (name, content) in files {
        if name.split('/').any(|part| part == "..") {
            bail!("bootstrap data names {name}");
        }
        let content = STANDARD
            .decode(content.as_str().unwrap_or_default())
            .context("read bootstrap data")?;
        let mode = if name.ends_with(".crt") { 0o644 } else { 0o600 };
        layout::write(&layout.server(&name), &content, mode)?;
    }
    Ok(())
}

/// Asks the remote server for the members until it answers with some.
async fn remote_members(remote: &Remote) -> Result<Vec<String>, Ending> {
    let ask = async {
        loop {
            match remote
                .get("/db/info", &Credential::Password(User::Server), &[])
                .await
            {
                Ok(text) => {
                    let urls = client_urls(&text);
                    if !urls.is_empty() {
                        return urls;
                    }
                }
                Err(error) => log::info(format!(
                    "Waiting to retrieve etcd cluster member list: {error:#}"
                )),
            }
            tokio::time::sleep(RETRY).await;
        }
    };
    tokio::time::timeout(API_WAIT, ask)
        .await
        .map_err(|_| Ending::Shutdown("failed to wait for API server to become ready".to_owned()))
}

/// Client addresses of the voters in an answer of /db/info.
fn client_urls(text: &str) -> Vec<String> {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let members = value.get("members").and_then(Value::as_array);
    members
        .into_iter()
        .flatten()
        .filter(|member| member.get("isLearner") != Some(&Value::Bool(true)))
        .filter_map(|member| member.pointer("/clientURLs/0").and_then(Value::as_str))
        .map(str::to_owned)
        .collect()
}

/// Adds this server as a learner, or finds that it was added before, and says how its member starts.
pub(crate) async fn membership(
    remote: &Remote,
    layout: &Layout,
    identity: &Identity,
    name: &str,
) -> Result<Start, Ending> {
    let endpoints = remote_members(remote).await?;
    log::info(format!(
        "Adding member {name} to etcd cluster {endpoints:?}"
    ));
    let client = Client::new(layout, endpoints).map_err(Ending::fatal)?;
    let failed =
        |error: &anyhow::Error| Ending::Shutdown(format!("etcd cluster join failed: {error:#}"));
    let peer = member::peer_url(identity.node_ip);
    let add = async {
        loop {
            let known = match client.members().await {
                Ok(known) => known,
                Err(error) => {
                    log::info(format!(
                        "Waiting to retrieve etcd cluster member list: {error:#}"
                    ));
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            };
            if known.iter().any(|other| {
                other.name != name && member::node_of(&other.name) == identity.node_name
            }) {
                drop(std::fs::remove_file(layout.etcd().join("name")));
                let cause = "duplicate node name found, please use a unique name for this node";
                return Err(failed(&anyhow!(cause)));
            }
            if let Some(own) = known.iter().find(|other| is_own(other, name, &peer)) {
                return Ok(Start::Joining(initial_cluster(&known, own.id, name)));
            }
            match client.add_learner(&peer).await {
                Ok((id, members)) => {
                    return Ok(Start::Joining(initial_cluster(&members, id, name)));
                }
                Err(error) => {
                    let text = format!("{error:#}");
                    if !text.contains("too many learner")
                        && !text.contains("unhealthy")
                        && !text.contains("deadline")
                    {
                        return Err(failed(&error));
                    }
                    log::info(format!(
                        "Waiting for other members to finish joining etcd cluster: {text}"
                    ));
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    };
    tokio::time::timeout(API_WAIT, add)
        .await
        .map_err(|_| Ending::Shutdown("failed to wait for API server to become ready".to_owned()))?
}

/// A join that was cut off: added under our address but never started, or under our very name.
fn is_own(member: &Member, name: &str, peer: &str) -> bool {
    member.name == name
        || (member.name.is_empty() && member.peer_urls.iter().any(|url| url == peer))
}

fn initial_cluster(members: &[Member], own: u64, name: &str) -> String {
    members
        .iter()
        .flat_map(|member| {
            let member_name = if member.id == own {
                name
            } else {
                member.name.as_str()
            };
            member
                .peer_urls
                .iter()
                .map(move |url| format!("{member_name}={url}"))
        })
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn voters_only_are_asked() {
        let text = r#"{"members":[{"clientURLs":["https://a:2379"]},{"isLearner":true,"clientURLs":["https://b:2379"]},{"name":""}]}"#;
        assert_eq!(client_urls(text), ["https://a:2379"]);
        assert!(client_urls("nothing").is_empty());
    }

    #[test]
    fn the_initial_cluster_names_the_new_member() {
        let member = |id, name: &str, url: &str| Member {
            id,
            name: name.to_owned(),
            peer_urls: vec![url.to_owned()],
            client_urls: vec![],
            is_learner: false,
        };
        let members = [
            member(1, "a-00000000", "https://a:2380"),
            member(2, "", "https://b:2380"),
        ];
        assert_eq!(
            initial_cluster(&members, 2, "b-11111111"),
            "a-00000000=https://a:2380,b-11111111=https://b:2380"
        );
        assert!(is_own(
            &member(2, "", "https://b:2380"),
            "b-1",
            "https://b:2380"
        ));
        assert!(!is_own(
            &member(2, "", "https://c:2380"),
            "b-1",
            "https://b:2380"
        ));
    }
}
