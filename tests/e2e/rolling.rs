//! A configuration change is carried through a cluster that is in use: server by
//! server, over a power cut, and over the loss of trueup's own memory.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use trueup_bed::Machine;

use crate::rig::downtime::{self, invocation, one_at_a_time, restarts};
use crate::rig::prober::Prober;
use crate::rig::{ROLL_OUT, Rig, Shape, eventually, story};

#[test]
fn changes_roll_through_a_cluster_in_use() -> Result<()> {
    story(Shape::THREE_AND_TWO, |rig| {
        rig.converge()?;
        let prober = Prober::start(rig)?;
        server_by_server(rig)?;
        over_a_power_cut(rig)?;
        over_the_loss_of_the_state_directory(rig)?;
        prober.finish().map(drop)
    })
}

/// Asks every server and agent for another setting; each `value` is a new one.
fn change_settings(rig: &Rig, value: u32) -> Result<String> {
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
fn each_once(rig: &Rig, since: f64) -> Result<()> {
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

fn server_by_server(rig: &Rig) -> Result<()> {
    let since = downtime::now()?;
    let commit = change_settings(rig, 410)?;
    rig.host().wait_success(&commit, ROLL_OUT)?;
    each_once(rig, since)
}

/// Returns when k3s of this machine is being stopped or was started again.
fn wait_touched(machine: &Machine, before: &str) -> Result<()> {
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

/// While the first server restarts, the last one loses its power: the second one is
/// left alone until it is back.
fn over_a_power_cut(rig: &Rig) -> Result<()> {
    let (first, second, last) = (rig.machine("m1"), rig.machine("m2"), rig.machine("m3"));
    let before = (invocation(first)?, invocation(second)?);
    let commit = change_settings(rig, 420)?;
    wait_touched(first, &before.0)?;
    last.power_cut()?;
    eventually("the first server", Duration::from_secs(120), || {
        let state = first.sh("systemctl show -p ActiveState --value k3s")?;
        Ok((state.trim() == "active").then_some(()))
    })?;
    eventually("the hold", Duration::from_secs(60), || {
        let status = rig.host().status()?.to_string();
        Ok(status.contains("quorum: ").then_some(()))
    })?;
    ensure!(
        invocation(second)? == before.1,
        "m2 was touched while m3 was off"
    );
    last.power_on()?;
    rig.host().wait_success(&commit, ROLL_OUT)?;
    ensure!(invocation(second)? != before.1);
    ensure!(rig.api()?.ready_nodes()? == rig.shape.members());
    Ok(())
}

/// trueup's memory is removed and its process killed while a server restarts: the
/// job goes on, nothing is repeated, and the rest follows.
fn over_the_loss_of_the_state_directory(rig: &Rig) -> Result<()> {
    let since = downtime::now()?;
    let first = rig.machine("m1");
    let before = invocation(first)?;
    let commit = change_settings(rig, 430)?;
    wait_touched(first, &before)?;
    rig.host()
        .machine()
        .sh("rm -rf /var/lib/trueup/host && systemctl kill -s KILL trueup")?;
    rig.host().wait_success(&commit, ROLL_OUT)?;
    each_once(rig, since)
}
