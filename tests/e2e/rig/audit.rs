//! The audit logs of all API servers: what trueup asked of them.

use anyhow::Result;
use serde_json::Value;

use super::Rig;
use super::documents::AUDIT_LOG;

/// How far each log was read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mark(Vec<usize>);

/// A request of trueup's.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) verb: String,
    pub(crate) uri: String,
}

impl Request {
    /// It may change something.
    pub(crate) fn is_writing(&self) -> bool {
        let reads = ["get", "list", "watch"].contains(&self.verb.as_str());
        !reads && !self.is_dry_run()
    }

    pub(crate) fn is_dry_run(&self) -> bool {
        self.uri.contains("dryRun=All")
    }
}

fn log(rig: &Rig, index: usize) -> String {
    rig.servers()
        .get(index)
        .and_then(|server| server.read_text(AUDIT_LOG).ok())
        .unwrap_or_default()
}

/// The present ends of the logs.
pub(crate) fn mark(rig: &Rig) -> Mark {
    Mark(
        (0..rig.shape.servers)
            .map(|index| log(rig, index).len())
            .collect(),
    )
}

/// Requests of trueup since a mark; other clients are told apart by their user agent.
pub(crate) fn requests_since(rig: &Rig, mark: &Mark) -> Result<Vec<Request>> {
    let mut requests = Vec::new();
    for (index, from) in mark.0.iter().enumerate() {
        let log = log(rig, index);
        for line in log.get(*from..).unwrap_or_default().lines() {
            let Ok(event) = serde_json::from_str::<Value>(line) else {
                // The last line may be half written.
                continue;
            };
            let ours = event["userAgent"]
                .as_str()
                .is_some_and(|agent| agent.starts_with("trueup/"));
            if ours {
                requests.push(Request {
                    verb: event["verb"].as_str().unwrap_or_default().to_owned(),
                    uri: event["requestURI"].as_str().unwrap_or_default().to_owned(),
                });
            }
        }
    }
    Ok(requests)
}
