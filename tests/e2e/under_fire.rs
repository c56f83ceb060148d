//! Roll-outs while something goes wrong in their midst: another person's work, a full
//! disk, a cut cable, an API that refuses. Never two servers down by us, no write lost;
//! whoever waits says for what, and goes on by itself when it is over.
//! (A power cut of the server in work: `rolling`.)

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::rig::downtime::{self, invocation, one_at_a_time, restarts};
use crate::rig::prober::Prober;
use crate::rig::roll::{NEXT_VERSION, change_settings, each_once, wait_touched};
use crate::rig::{ROLL_OUT, Rig, Shape, VERSION, eventually, story};

/// A machine is given up on for now after a minute of silence, and a probe of it after
/// 20 s more.
const A_WORD: Duration = Duration::from_secs(180);

#[test]
fn under_fire() -> Result<()> {
    story(Shape::THREE_AND_TWO, |rig| {
        rig.converge()?;
        let prober = Prober::start(rig)?;
        others_at_work(rig)?;
        a_disk_that_is_full(rig)?;
        a_cut_cable(rig)?;
        an_api_that_refuses(rig)?;
        prober.finish().map(drop)
    })
}

/// Waits until both the commit's verdict and `status` tell this, and returns the
/// verdict's words. It waits for what will come: nothing is decided.
fn told(rig: &Rig, commit: &str, text: &str) -> Result<String> {
    let begun = std::time::Instant::now();
    let mut last = String::new();
    let words = eventually(&format!("the word {text:?}"), A_WORD, || {
        let newest = rig.host().newest(commit, "apply/edge")?;
        let newest = newest.context("a word on the commit")?;
        let status = rig.host().trueup_ends("status", 0)?.stdout;
        last = format!("{newest:?}\n{status}");
        let both = newest.description.contains(text) && status.contains(text);
        Ok((both && newest.state == "pending").then_some(newest.description))
    });
    let words = words.with_context(|| last)?;
    eprintln!("after {:.0} s: {words}", begun.elapsed().as_secs_f32());
    Ok(words)
}

/// Which process runs on each server.
fn processes(rig: &Rig) -> Result<Vec<String>> {
    let servers = rig.servers();
    servers.into_iter().map(invocation).collect()
}

/// Every process was started with this, as it says itself, and every Node is Ready.
fn all_have(rig: &Rig, value: &str) -> Result<()> {
    eventually(&format!("{value} on all Nodes"), ROLL_OUT, || {
        let api = rig.api()?;
        for name in rig.shape.members() {
            let node = api.get(&["node", &name])?;
            let arguments = node["metadata"]["annotations"]["k3s.io/node-args"].to_string();
            let version = &node["status"]["nodeInfo"]["kubeletVersion"];
            ensure!(
                arguments.contains(value) || version == value,
                "{name}: {arguments} {version}"
            );
        }
        Ok((api.ready_nodes()? == rig.shape.members()).then_some(()))
    })
}

/// Somebody cordons a server, then an agent, and writes into a file that is about to
/// be changed.
fn others_at_work(rig: &Rig) -> Result<()> {
    let since = downtime::now()?;
    let (first, second) = (rig.machine("m1"), rig.machine("m2"));
    let (before, next) = (invocation(first)?, invocation(second)?);
    let commit = change_settings(rig, 410)?;
    wait_touched(first, &before)?;
    rig.api()?.kubectl(&["cordon", "m3"])?;
    second.sh("echo '# by another hand' >>/etc/rancher/k3s/config.yaml")?;
    told(rig, &commit, "somebody cordoned m3")?;
    ensure!(invocation(second)? == next, "m2 was restarted beside m3");
    rig.api()?.kubectl(&["cordon", "m4"])?;
    rig.api()?.kubectl(&["uncordon", "m3"])?;
    let last = invocation(rig.machine("m5"))?;
    told(rig, &commit, "m4 (somebody cordoned it)")?;
    ensure!(
        invocation(rig.machine("m5"))? == last,
        "m5 was restarted beside m4"
    );
    let node = rig.api()?.get(&["node", "m4"])?;
    ensure!(node["spec"]["unschedulable"] == true, "{node}");
    rig.api()?.kubectl(&["uncordon", "m4"])?;
    rig.host().wait_success(&commit, ROLL_OUT)?;
    each_once(rig, since)?;
    let config = second.read_text("/etc/rancher/k3s/config.yaml")?;
    ensure!(!config.contains("another hand"), "{config}");
    all_have(rig, "410")
}

/// A release comes; the second server's disk fills up while the first one restarts.
fn a_disk_that_is_full(rig: &Rig) -> Result<()> {
    let since = downtime::now()?;
    let (first, second) = (rig.machine("m1"), rig.machine("m2"));
    let (before, next) = (invocation(first)?, invocation(second)?);
    rig.publish(NEXT_VERSION)?;
    rig.repo.replace("edge.yaml", VERSION, NEXT_VERSION)?;
    let commit = rig.repo.push("the next release")?;
    wait_touched(first, &before)?;
    second.sh("mkdir /root/bin && cp -a /usr/local/bin/. /root/bin
         mount -t tmpfs -o size=64m tmpfs /usr/local/bin
         cp -a /root/bin/. /usr/local/bin")?;
    let words = told(
        rig,
        &commit,
        "MiB free at /usr/local/bin, 96 MiB are needed",
    )?;
    ensure!(words.contains("m2"), "{words}");
    ensure!(invocation(second)? == next, "m2 was stopped");
    second.sh("umount /usr/local/bin")?;
    rig.host().wait_success(&commit, ROLL_OUT)?;
    each_once(rig, since)?;
    all_have(rig, NEXT_VERSION)
}

/// The first server's cable is out while its k3s restarts.
fn a_cut_cable(rig: &Rig) -> Result<()> {
    let since = downtime::now()?;
    let first = rig.machine("m1");
    let before = processes(rig)?;
    let commit = change_settings(rig, 420)?;
    wait_touched(first, &invocation_of(&before)?)?;
    first.link_down()?;
    let words = eventually("m1 in the verdict", A_WORD, || {
        let status = rig.host().trueup_ends("status", 0)?.stdout;
        let newest = rig.host().newest(&commit, "apply/edge")?;
        let words = newest.context("a word")?.description;
        let told = status.contains("m1 (unknown)") && !words.contains("steps run");
        Ok(told.then_some(words))
    })?;
    eprintln!("m1 is cut off: {words}");
    ensure!(words.contains("m1"), "{words}");
    let others = |rig: &Rig| -> Result<Vec<String>> { Ok(processes(rig)?.split_off(1)) };
    ensure!(
        others(rig)? == before.get(1..).unwrap_or_default(),
        "another server was touched"
    );
    first.link_up()?;
    rig.host().wait_success(&commit, ROLL_OUT)?;
    one_at_a_time(&restarts(&rig.servers(), since)?)?;
    all_have(rig, "420")
}

fn invocation_of(processes: &[String]) -> Result<String> {
    processes.first().cloned().context("there is a server")
}

/// Every API server sheds its load (429) in mid-roll-out, then fails (500).
fn an_api_that_refuses(rig: &Rig) -> Result<()> {
    let since = downtime::now()?;
    let before = processes(rig)?;
    let answer = |code: &str| -> Result<()> {
        for server in rig.servers() {
            server.put_file("/run/k3s-double-answers", 0o644, code)?;
        }
        Ok(())
    };
    let commit = change_settings(rig, 430)?;
    wait_touched(rig.machine("m1"), &invocation_of(&before)?)?;
    answer("429")?;
    told(rig, &commit, "429")?;
    let held = processes(rig)?;
    ensure!(held.last() == before.last(), "m3 was touched");
    answer("500")?;
    told(rig, &commit, "500")?;
    ensure!(processes(rig)? == held, "a server was touched");
    answer("")?;
    rig.host().wait_success(&commit, ROLL_OUT)?;
    each_once(rig, since)?;
    all_have(rig, "430")
}
