//! A configuration change is carried through a cluster that is in use: server by
//! server, over a power cut, and over the loss of trueup's own memory.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::rig::downtime::{self, invocation, one_at_a_time, restarts};
use crate::rig::prober::Prober;
use crate::rig::roll::{NEXT_VERSION, change_settings, each_once, wait_touched};
use crate::rig::{ROLL_OUT, Rig, Shape, VERSION, eventually, story};

#[test]
fn changes_roll_through_a_cluster_in_use() -> Result<()> {
    story(Shape::THREE_AND_TWO, |rig| {
        rig.converge()?;
        let prober = Prober::start(rig)?;
        server_by_server(rig)?;
        over_a_power_cut(rig)?;
        over_the_loss_of_the_state_directory(rig)?;
        over_a_power_cut_of_the_server_that_restarts(rig)?;
        around_a_server_that_is_out_of_reach(rig)?;
        prober.finish().map(drop)
    })
}

fn server_by_server(rig: &Rig) -> Result<()> {
    let since = downtime::now()?;
    let commit = change_settings(rig, 410)?;
    rig.host().wait_success(&commit, ROLL_OUT)?;
    each_once(rig, since)
}

/// A new release comes. While the first server restarts with it, the last one loses
/// its power: the second one is left alone until it is back.
fn over_a_power_cut(rig: &Rig) -> Result<()> {
    let (first, second, last) = (rig.machine("m1"), rig.machine("m2"), rig.machine("m3"));
    let before = (invocation(first)?, invocation(second)?);
    rig.publish(NEXT_VERSION)?;
    rig.repo.replace("edge.yaml", VERSION, NEXT_VERSION)?;
    let commit = rig.repo.push("the next release")?;
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
    let versions = rig.api()?.kubectl(&[
        "get",
        "nodes",
        "-o",
        "jsonpath={.items[*].status.nodeInfo.kubeletVersion}",
    ])?;
    let new = versions
        .split_whitespace()
        .filter(|version| *version == NEXT_VERSION);
    ensure!(new.count() == rig.members().len(), "{versions}");
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

/// The machine goes down with the job that is changing it: what the job did is looked
/// at, and not assumed.
fn over_a_power_cut_of_the_server_that_restarts(rig: &Rig) -> Result<()> {
    let first = rig.machine("m1");
    let before = invocation(first)?;
    let since = downtime::now()?;
    let commit = change_settings(rig, 440)?;
    wait_touched(first, &before)?;
    first.power_cut()?;
    first.power_on()?;
    rig.host().wait_success(&commit, ROLL_OUT)?;
    let others = [rig.machine("m2"), rig.machine("m3")];
    one_at_a_time(&restarts(&others, since)?)?;
    for member in rig.members() {
        let role = if member.name() < "m4" {
            "k3s"
        } else {
            "k3s-agent"
        };
        let words = member.sh(&format!("cat /proc/$(systemctl show -p MainPID --value {role})/cmdline | tr '\\0' ' '; cat /etc/rancher/k3s/config.yaml"))?;
        ensure!(words.contains("440"), "{}: {words}", member.name());
    }
    ensure!(rig.api()?.ready_nodes()? == rig.shape.members());
    Ok(())
}

/// The first server's cable is out: the API is reached through the others, what can be
/// done is done, and the verdict names the machine.
fn around_a_server_that_is_out_of_reach(rig: &Rig) -> Result<()> {
    rig.host().configure("", "apply: {deadlineS: 40}\n")?;
    rig.host().stop()?;
    rig.machine("m1").link_down()?;
    rig.repo.replace(
        "apps/web/web.yaml",
        "{index.html: hello}",
        "{index.html: around}",
    )?;
    let commit = rig.repo.push("around")?;
    rig.host().start()?;
    let verdict = rig.host().wait_decided(&commit, "apply/edge", ROLL_OUT)?;
    ensure!(verdict.state == "failure", "{verdict:?}");
    ensure!(verdict.description.contains("m1"), "{verdict:?}");
    let kubectl = "k3s kubectl -n web get configmap page -o jsonpath={.data}";
    let page = rig.machine("m2").sh(kubectl)?;
    ensure!(page.contains("around"), "{page}");
    rig.machine("m1").link_up()?;
    eventually("a whole fleet", ROLL_OUT, || {
        let status = rig.host().status()?;
        let units = status["units"].as_array().cloned().unwrap_or_default();
        Ok(units
            .iter()
            .all(|unit| unit["state"] == "true")
            .then_some(()))
    })
}
