//! A first roll-out where much is wrong: each fault is told by name, and the healthy
//! rest goes on.

use std::time::Duration;

use anyhow::{Result, ensure};
use trueup_bed::Fault;

use crate::rig::downtime::invocation;
use crate::rig::{MGMT, ROLL_OUT, Rig, Shape, eventually, key_of, story};

#[test]
fn the_healthy_rest_goes_on() -> Result<()> {
    story(Shape::ONE_AND_TWO, |rig| {
        a_release_that_is_not_what_its_checksum_says(rig)?;
        a_full_disk_and_a_machine_out_of_reach(rig)?;
        a_host_key_that_is_not_the_pinned_one(rig)?;
        a_workstation_that_is_off(rig)?;
        a_document_that_vanished(rig)
    })
}

fn a_release_that_is_not_what_its_checksum_says(rig: &Rig) -> Result<()> {
    rig.host().configure("", "apply: {deadlineS: 20}\n")?;
    rig.releases.set_fault("k3s1/k3s", Fault::Corrupt);
    let commit = rig.repo.push("the first state")?;
    rig.host().start()?;
    let verdict = rig.host().wait_decided(&commit, "apply/edge", ROLL_OUT)?;
    ensure!(verdict.state == "failure", "{verdict:?}");
    ensure!(verdict.description.contains("checksum"), "{verdict:?}");
    ensure!(verdict.description.contains("v1.36.3+k3s1"), "{verdict:?}");
    for member in rig.members() {
        let there = member.exec("test -e /usr/local/bin/k3s")?;
        ensure!(there.code == Some(1), "{} has a k3s", member.name());
        member.sh("test -s /etc/trueup-demo/motd && systemctl is-active hello")?;
    }
    // The machine beside the cluster has nothing to do with it.
    let verdict = rig
        .host()
        .wait_decided(&commit, "apply/machines", ROLL_OUT)?;
    ensure!(verdict.state == "success", "{verdict:?}");
    rig.releases.clear_faults();
    rig.host().stop()
}

fn a_full_disk_and_a_machine_out_of_reach(rig: &Rig) -> Result<()> {
    rig.host().configure("", "apply: {deadlineS: 60}\n")?;
    let (full, dark) = (rig.machine("m2"), rig.machine("m3"));
    // One that is seen before anything is sent, and one that is seen by the write: three
    // files of a page each do not fit into two.
    full.sh("mount -t tmpfs -o size=1m tmpfs /usr/local/bin")?;
    full.sh("mount -t tmpfs -o size=8k tmpfs /etc/trueup-demo")?;
    dark.link_down()?;
    let commit = rig.repo.push("once more")?;
    rig.host().start()?;
    let verdict = rig.host().wait_decided(&commit, "apply/edge", ROLL_OUT)?;
    ensure!(verdict.state == "failure", "{verdict:?}");
    let named = verdict.description.contains("m2") || verdict.description.contains("m3");
    ensure!(named, "{verdict:?}");
    let status = rig.host().trueup_ends("status", 0)?.stdout;
    ensure!(status.contains("MiB free at /usr/local/bin"), "{status}");
    ensure!(status.contains("no space left on"), "{status}");
    ensure!(status.contains("m3 (unknown)"), "{status}");
    ensure!(rig.api()?.ready_nodes()? == ["m1"], "{status}");
    let page = rig.api()?.get(&["-n", "web", "configmap", "page"])?;
    ensure!(page["data"]["index.html"] == "hello", "{page}");

    full.sh("umount /usr/local/bin /etc/trueup-demo")?;
    dark.link_up()?;
    eventually("the rest of the fleet", ROLL_OUT, || {
        Ok((rig.api()?.ready_nodes()? == rig.shape.members()).then_some(()))
    })?;
    eventually("a true fleet", Duration::from_secs(60), || {
        let status = rig.host().status()?;
        let units = status["units"].as_array().cloned().unwrap_or_default();
        let all = !units.is_empty() && units.iter().all(|unit| unit["state"] == "true");
        Ok(all.then_some(()))
    })?;
    rig.host().stop()
}

fn a_host_key_that_is_not_the_pinned_one(rig: &Rig) -> Result<()> {
    let (right, wrong) = (key_of(rig.machine("m3")), key_of(rig.machine(MGMT)));
    rig.repo.replace("m3.yaml", &right, &wrong)?;
    rig.repo.replace("m2.yaml", "z-m2", "cellar")?;
    rig.repo.push("a wrong key, and a label")?;
    let end = rig.host().trueup_ends("apply --yes --wait-s 15", 8)?;
    ensure!(end.stdout.contains("which is not pinned"), "{}", end.stdout);
    let node = rig.api()?.get(&["node", "m2"])?;
    ensure!(
        node["metadata"]["labels"]["example.org/zone"] == "cellar",
        "{node}"
    );

    rig.repo.replace("m3.yaml", &wrong, &right)?;
    rig.repo.push("the right key")?;
    rig.host().trueup_ends("apply --yes", 0).map(drop)
}

/// A machine that may be off keeps no commit red.
fn a_workstation_that_is_off(rig: &Rig) -> Result<()> {
    rig.machine("m3").link_down()?;
    rig.repo.replace(
        "m3.yaml",
        "  role: agent\n",
        "  role: agent\n  optional: true\n",
    )?;
    rig.repo.replace("m2.yaml", "cellar", "attic")?;
    rig.repo.push("m3 may be off")?;
    let end = rig.host().trueup_ends("apply --yes", 0)?;
    ensure!(end.stdout.contains("m3 (off)"), "{}", end.stdout);
    rig.machine("m3").link_up()
}

/// Absence is never read as removal.
fn a_document_that_vanished(rig: &Rig) -> Result<()> {
    let before = invocation(rig.machine("m2"))?;
    rig.repo.remove("m2.yaml")?;
    rig.repo.push("m2 is not named any more")?;
    rig.host().trueup_ends("apply --yes", 0)?;
    ensure!(invocation(rig.machine("m2"))? == before);
    rig.machine("m2")
        .sh("test -s /var/lib/trueup/owner && test -s /etc/trueup-demo/motd")?;
    // m3 has only just come back.
    eventually("all Nodes", ROLL_OUT, || {
        Ok((rig.api()?.ready_nodes()? == rig.shape.members()).then_some(()))
    })?;
    let node = rig.api()?.get(&["node", "m2"])?;
    ensure!(
        node["metadata"]["labels"]["example.org/zone"] == "attic",
        "{node}"
    );
    Ok(())
}
