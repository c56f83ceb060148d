//! The audit logs of all API servers: what trueup asked of them.

use anyhow::{Context as _, Result};
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

/// Everything since a mark.
pub(crate) fn events_since(rig: &Rig, mark: &Mark) -> Result<Vec<Value>> {
    let mut events = Vec::new();
    for (index, from) in mark.0.iter().enumerate() {
        let log = log(rig, index);
        let new = log.get(*from..).context("the log only grows")?;
        // The last line may be half written.
        events.extend(
            new.lines()
                .filter_map(|line| serde_json::from_str(line).ok()),
        );
    }
    Ok(events)
}

/// Requests of trueup since a mark; other clients are told apart by their user agent.
pub(crate) fn requests_since(rig: &Rig, mark: &Mark) -> Result<Vec<Request>> {
    let text = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
    Ok(events_since(rig, mark)?
        .iter()
        .filter(|event| text(event, "userAgent").starts_with("trueup/"))
        .map(|event| Request {
            verb: text(event, "verb"),
            uri: text(event, "requestURI"),
        })
        .collect())
}
