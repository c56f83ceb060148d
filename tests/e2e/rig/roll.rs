//! Changes that restart k3s on every member, and how such a roll-out went.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use trueup_bed::Machine;

use super::downtime::{invocation, one_at_a_time, restarts};
use super::{Rig, eventually};

/// The release after the one that a fleet begins with.
pub(crate) const NEXT_VERSION: &str = "v1.36.4+k3s1";

/// Asks every server and agent for another setting; each `value` is a new one.
pub(crate) fn change_settings(rig: &Rig, value: u32) -> Result<String> {
    let text = rig.repo.read("edge.yaml")?;
    let kept: Vec<&str> = text
        .lines()
        .filter(|line| !line.contains("max-requests-inflight") && !line.contains("agent:"))
        .filter(|line| !line.contains("max-pods"))
        .collect();
    let kept = kept.join("\n");
    rig.repo.write(
        "edge.yaml",
        &format!(
            "{kept}\n          - max-requests-inflight={value}\n    agent: {{options: {{\n      kubelet-arg: [max-pods={value}]}}}}\n"
        ),
    )?;
    rig.repo.push(&format!("settings {value}"))
}

/// Every member was restarted exactly once since, and no two servers were down together.
pub(crate) fn each_once(rig: &Rig, since: f64) -> Result<()> {
    let servers = restarts(&rig.servers(), since)?;
    one_at_a_time(&servers)?;
    // `maxUnavailable` is 1 where nothing is said.
    one_at_a_time(&restarts(&rig.agents(), since)?)?;
    let members = restarts(&rig.members(), since)?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for restart in &members {
        *counts.entry(restart.machine.as_str()).or_default() += 1;
    }
    let once = counts.len() == rig.members().len() && counts.values().all(|count| *count == 1);
    ensure!(once, "{members:#?}");
    for restart in &members {
        eprintln!(
            "{}: k3s was down for {:.1} s",
            restart.machine,
            restart.started - restart.stopped
        );
    }
    Ok(())
}

/// Returns when k3s of this machine is being stopped or was started again.
pub(crate) fn wait_touched(machine: &Machine, before: &str) -> Result<()> {
    eventually(
        &format!("the restart of {}", machine.name()),
        Duration::from_secs(60),
        || {
            let state = machine.sh("systemctl show -p ActiveState --value k3s")?;
            let begun = state.trim() != "active" || invocation(machine)? != before;
            Ok(begun.then_some(()))
        },
    )
}
