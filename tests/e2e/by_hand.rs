//! trueup by hand, on the machine that is the cluster's server itself: powers, saved
//! plans, machines that somebody else set up, pauses.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::rig::{MGMT, ROLL_OUT, Rig, Shape, eventually, story};

/// The server is the machine that trueup runs on; the agent is reached as a user
/// with sudo.
const AGENT_ALONE: Shape = Shape {
    servers: 0,
    agents: 1,
};

#[test]
fn by_hand() -> Result<()> {
    story(AGENT_ALONE, |rig| {
        on_itself(rig)?;
        without_power(rig)?;
        without_space(rig)?;
        a_machine_that_somebody_set_up(rig)?;
        saved_plans(rig)?;
        a_pause(rig)?;
        drift_is_only_reported(rig)?;
        told_to_end_in_the_middle(rig)?;
        an_old_backup_of_the_state_directory(rig)
    })
}

/// `mgmt` becomes the server, over the connection `local`.
fn on_itself(rig: &Rig) -> Result<()> {
    let ip = rig.machine(MGMT).ip();
    rig.repo.replace(
        "mgmt.yaml",
        "  connection:\n    local: {}\n",
        &format!("  cluster: edge\n  role: server\n  connection:\n    local: {{address: {ip}}}\n"),
    )?;
    rig.repo
        .replace("m1.yaml", "    ssh:\n", "    ssh:\n      user: ops\n")
}

fn kubectl(rig: &Rig, args: &str) -> Result<String> {
    rig.machine(MGMT).sh(&format!("k3s kubectl {args}"))
}

fn motd(rig: &Rig) -> Result<String> {
    rig.machine("m1").read_text("/etc/trueup-demo/motd")
}

/// What the host does not grant is told with the setting that would grant it.
fn without_power(rig: &Rig) -> Result<()> {
    let host = rig.host();
    host.configure_with("switches: {reportDrift: true}")?;
    rig.repo.push("the first state")?;
    let end = host.trueup_ends("apply --yes --wait-s 5", 4)?;
    ensure!(
        end.stdout
            .contains("trueup config set switches.rollOut true"),
        "{}",
        end.stdout
    );
    let made = rig
        .machine("m1")
        .exec("ls -d /var/lib/trueup /etc/trueup-demo")?;
    ensure!(made.stdout.is_empty(), "{}", made.stdout);
    // Nobody is asked where nobody is.
    host.configure("", "")?;
    let end = host.trueup_ends("apply </dev/null", 64)?;
    ensure!(end.stderr.contains("trueup apply --yes"), "{}", end.stderr);
    Ok(())
}

/// trueup's own disk is full: it says so, and starts nothing that it cannot record.
fn without_space(rig: &Rig) -> Result<()> {
    let host = rig.host();
    let small = "/var/lib/trueup-small";
    let mgmt = rig.machine(MGMT);
    let config = host.configuration("", small, "");
    mgmt.put_file("/etc/trueup/small.yaml", 0o600, config)?;
    for pages in [1, 40] {
        mgmt.sh(&format!(
            "mkdir -p {small} && mount -t tmpfs -o size={}k,mode=700 tmpfs {small}",
            pages * 4
        ))?;
        let end = host.trueup("--config /etc/trueup/small.yaml apply --yes --wait-s 5")?;
        mgmt.sh(&format!("umount {small}"))?;
        ensure!(end.code == Some(1), "{pages} pages: {}", end.stdout);
        ensure!(end.stderr.contains("no space left"), "{}", end.stderr);
    }
    Ok(())
}

/// A machine that holds other content is nobody's to write to until somebody says so:
/// first that it is ours, then that its content may go.
fn a_machine_that_somebody_set_up(rig: &Rig) -> Result<()> {
    let host = rig.host();
    let machine = rig.machine("m1");
    machine.put_file("/etc/trueup-demo/motd", 0o644, "theirs\n")?;
    let end = host.trueup_ends("apply --yes --wait-s 30", 6)?;
    ensure!(
        end.stdout.contains("/etc/trueup-demo/motd"),
        "{}",
        end.stdout
    );
    ensure!(motd(rig)? == "theirs\n");
    ensure!(machine.exec("test -e /var/lib/trueup/owner")?.code == Some(1));
    // The rest of the fleet does not wait.
    ensure!(kubectl(rig, "get nodes -o name")? == "node/mgmt\n");

    // The adoption, then the file: each by its name.
    for _ in 0..2 {
        let ids = confirmable(rig)?;
        ensure!(!ids.is_empty(), "something waits for a word");
        for id in ids {
            host.trueup_ends(&format!("approve {id} --reason 'it is retired'"), 0)?;
        }
        host.trueup("apply --yes --wait-s 30")?;
    }
    ensure!(motd(rig)? == "kept true by trueup\n");
    host.trueup_ends("apply --yes", 0)?;
    let plan = host.trueup_ends("plan --detailed-exitcode", 0)?;
    ensure!(plan.stdout.contains("no changes"), "{}", plan.stdout);
    let nodes = kubectl(rig, "get nodes --no-headers")?;
    ensure!(nodes.matches(" Ready ").count() == 2, "{nodes}");
    Ok(())
}

/// Ids of the steps that wait for a grant.
fn confirmable(rig: &Rig) -> Result<Vec<String>> {
    let end = rig.host().trueup_ends("plan -o json", 0)?;
    let plan: Value = serde_json::from_str(&end.stdout)?;
    let mut ids = Vec::new();
    for unit in plan["units"].as_array().context("units")? {
        for held in unit["left"].as_array().context("left")? {
            if held["hold"]["gate"] == "grant" {
                ids.push(held["step"]["id"].as_str().context("an id")?.to_owned());
            }
        }
    }
    Ok(ids)
}

/// A saved plan is carried out as it was shown, or not at all.
fn saved_plans(rig: &Rig) -> Result<()> {
    let host = rig.host();
    rig.repo
        .replace("base.yaml", "kept true by trueup", "second")?;
    rig.repo.push("second")?;
    host.trueup_ends("plan --out /root/second.json", 0)?;
    rig.repo.replace("base.yaml", "second", "third")?;
    rig.repo.push("third")?;
    let end = host.trueup_ends("apply /root/second.json", 5)?;
    ensure!(end.stderr.contains("trueup plan --out"), "{}", end.stderr);
    ensure!(motd(rig)? == "kept true by trueup\n");

    host.trueup_ends("plan --out /root/third.json", 0)?;
    rig.machine("m1")
        .sh("echo 0 >/proc/sys/net/core/somaxconn")?;
    let end = host.trueup_ends("apply /root/third.json --wait-s 20", 5)?;
    ensure!(end.stdout.contains("net.core.somaxconn"), "{}", end.stdout);
    ensure!(motd(rig)? == "third\n", "what the plan names is done");
    let live = rig.machine("m1").sh("cat /proc/sys/net/core/somaxconn")?;
    ensure!(live == "0\n", "what it does not name is not: {live}");
    host.trueup_ends("apply --yes", 0)?;
    let live = rig.machine("m1").sh("cat /proc/sys/net/core/somaxconn")?;
    ensure!(live == "1024\n", "{live}");
    Ok(())
}

fn a_pause(rig: &Rig) -> Result<()> {
    let host = rig.host();
    host.start()?;
    host.trueup_ends("pause cluster/edge --reason 'the disk is being changed'", 0)?;
    rig.repo.replace("base.yaml", "third", "fourth")?;
    let commit = rig.repo.push("fourth")?;
    let verdict = eventually("the verdict", Duration::from_secs(40), || {
        let verdict = host.newest(&commit, "apply/edge")?;
        Ok(verdict.filter(|verdict| verdict.description.contains("the disk is being changed")))
    })?;
    ensure!(verdict.state == "pending", "{verdict:?}");
    let status = host.trueup_ends("status", 0)?.stdout;
    ensure!(status.contains("trueup resume cluster/edge"), "{status}");
    ensure!(motd(rig)? == "third\n");
    host.trueup_ends("resume cluster/edge", 0)?;
    host.wait_success(&commit, ROLL_OUT)?;
    ensure!(motd(rig)? == "fourth\n");
    Ok(())
}

/// The repo grants roll-outs and no corrections: drift is told and stays; commits go on.
fn drift_is_only_reported(rig: &Rig) -> Result<()> {
    let host = rig.host();
    rig.repo
        .replace("fleet.yaml", "correctDrift: true", "correctDrift: false")?;
    let commit = rig.repo.push("no corrections")?;
    host.wait_success(&commit, ROLL_OUT)?;
    kubectl(rig, "-n web scale deployment/web --replicas=5")?;
    let drift = eventually("the word on the drift", Duration::from_secs(40), || {
        let verdict = host.newest(&commit, "drift/edge")?;
        Ok(verdict.filter(|verdict| verdict.state == "failure"))
    })?;
    ensure!(
        drift.description.contains("Deployment/web/web"),
        "{drift:?}"
    );
    let status = host.trueup_ends("status", 0)?.stdout;
    ensure!(status.contains("correctDrift: true"), "{status}");
    let replicas = kubectl(
        rig,
        "-n web get deployment web -o jsonpath={.spec.replicas}",
    )?;
    ensure!(replicas == "5", "{replicas}");
    // What the commit was to change has changed, and it stays decided.
    let verdict = host.newest(&commit, "converged")?.context("a verdict")?;
    ensure!(verdict.state == "success", "{verdict:?}");

    rig.repo.replace("base.yaml", "fourth", "fifth")?;
    rig.repo.push("fifth")?;
    eventually("the new commit", ROLL_OUT, || {
        Ok((motd(rig)? == "fifth\n").then_some(()))
    })?;
    rig.repo
        .replace("fleet.yaml", "correctDrift: false", "correctDrift: true")?;
    let commit = rig.repo.push("corrections")?;
    host.wait_success(&commit, ROLL_OUT)?;
    let replicas = kubectl(
        rig,
        "-n web get deployment web -o jsonpath={.spec.replicas}",
    )?;
    ensure!(replicas == "2", "{replicas}");
    Ok(())
}

/// SIGTERM while a job runs: trueup ends soon, the job goes on, and the next start
/// goes on from there.
fn told_to_end_in_the_middle(rig: &Rig) -> Result<()> {
    let host = rig.host();
    let unit = "[Unit]\nDescription=slow\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c \"echo ran >>/root/ran; sleep 15\"\n";
    let indented: String = unit
        .lines()
        .map(|line| format!("        {line}\n"))
        .collect();
    let profile = rig.repo.read("base.yaml")?;
    rig.repo.write(
        "base.yaml",
        &format!(
            "{profile}    - name: slow.service\n      state: started\n      content: |\n{indented}"
        ),
    )?;
    let commit = rig.repo.push("a slow unit")?;
    let machine = rig.machine("m1");
    eventually("the job", Duration::from_secs(40), || {
        Ok((machine.exec("test -e /root/ran")?.code == Some(0)).then_some(()))
    })?;
    let begun = Instant::now();
    host.stop()?;
    ensure!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    let state = machine.sh("systemctl show -p ActiveState --value slow")?;
    ensure!(state == "activating\n", "the job goes on: {state}");
    host.start()?;
    host.wait_success(&commit, ROLL_OUT)?;
    let ran = machine.sh("cat /root/ran")?;
    ensure!(ran == "ran\n", "it was started once: {ran:?}");
    Ok(())
}

/// The state directory is put back from before it was lost: targets know a newer
/// epoch of the same holder, and somebody must say that this one is the right one.
fn an_old_backup_of_the_state_directory(rig: &Rig) -> Result<()> {
    let host = rig.host();
    host.stop()?;
    let mgmt = rig.machine(MGMT);
    mgmt.sh("mv /var/lib/trueup/host /var/lib/trueup-backup")?;
    rig.repo.replace("base.yaml", "fifth", "sixth")?;
    rig.repo.push("sixth")?;
    host.trueup_ends("apply --yes", 0)?;
    ensure!(motd(rig)? == "sixth\n");

    mgmt.sh("rm -rf /var/lib/trueup/host && mv /var/lib/trueup-backup /var/lib/trueup/host")?;
    rig.repo.replace("base.yaml", "sixth", "seventh")?;
    rig.repo.push("seventh")?;
    let end = host.trueup("apply --yes --wait-s 5")?;
    ensure!(end.code != Some(0), "{}", end.stdout);
    ensure!(end.stdout.contains("newer than ours"), "{}", end.stdout);
    ensure!(
        end.stdout.contains("trueup claim --take-over"),
        "{}",
        end.stdout
    );
    ensure!(motd(rig)? == "sixth\n");
    host.trueup_ends(
        "claim --take-over cluster/edge --reason 'it is the right one'",
        0,
    )?;
    host.trueup_ends("apply --yes", 0)?;
    ensure!(motd(rig)? == "seventh\n");
    Ok(())
}
