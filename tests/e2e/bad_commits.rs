//! Commits and branches that cannot be used, keys that do not fit, and a second host:
//! what was true stays, nothing is deleted, and each says what to do.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::rig::downtime::invocation;
use crate::rig::{MGMT, ROLL_OUT, Rig, Shape, eventually, story};

const SOON: Duration = Duration::from_secs(40);

#[test]
fn what_was_true_stays() -> Result<()> {
    story(Shape::ONE_AND_ONE, |rig| {
        let first = rig.converge()?;
        rig.host().configure("", "apply: {deadlineS: 20}\n")?;
        rig.host().stop()?;
        rig.host().start()?;
        let before = Before::of(rig)?;
        a_broken_commit(rig)?;
        another_token(rig)?;
        an_encrypted_file_that_was_changed_by_hand(rig)?;
        before.is_unchanged(rig)?;
        a_rewound_branch(rig, &first)?;
        an_emptied_branch(rig)?;
        a_repository_that_is_gone(rig)?;
        before.is_unchanged(rig)?;
        an_identity_that_does_not_fit(rig)?;
        two_hosts(rig)?;
        before.is_unchanged(rig)
    })
}

/// What no bad commit may touch.
struct Before {
    invocations: Vec<String>,
    uids: String,
}

impl Before {
    fn of(rig: &Rig) -> Result<Self> {
        let members = rig.members();
        Ok(Self {
            invocations: members.into_iter().map(invocation).collect::<Result<_>>()?,
            uids: uids(rig)?,
        })
    }

    /// The same processes of k3s, the same objects.
    fn is_unchanged(&self, rig: &Rig) -> Result<()> {
        let now = Self::of(rig)?;
        ensure!(now.invocations == self.invocations, "k3s was started again");
        ensure!(now.uids == self.uids, "{} is not {}", now.uids, self.uids);
        Ok(())
    }
}

fn uids(rig: &Rig) -> Result<String> {
    rig.api()?.kubectl(&[
        "-n",
        "web",
        "get",
        "configmap/page",
        "deployment/web",
        "-o",
        "jsonpath={.items[*].metadata.uid}",
    ])
}

/// Takes the last commit back by another one, and waits until that is converged.
fn take_back(rig: &Rig) -> Result<()> {
    rig.repo.git(&["revert", "--no-edit", "HEAD"])?;
    let commit = rig.repo.push("as before")?;
    rig.host().wait_success(&commit, ROLL_OUT)
}

fn a_broken_commit(rig: &Rig) -> Result<()> {
    rig.repo
        .replace("base.yaml", "kept true by trueup", "not to be written")?;
    rig.repo.replace(
        "m2.yaml",
        "  role: agent\n",
        "  role: agent\n  rolle: agent\n",
    )?;
    rig.repo.write("other.yaml", "kind: [\n")?;
    let commit = rig.repo.push("broken")?;
    for context in ["validate", "converged"] {
        let verdict = rig.host().wait_decided(&commit, context, SOON)?;
        ensure!(verdict.state == "failure", "{verdict:?}");
        ensure!(verdict.description.contains(".yaml:"), "{verdict:?}");
    }
    let status = rig.host().trueup_ends("status", 0)?.stdout;
    ensure!(
        status.contains("m2.yaml:7") && status.contains("other.yaml:"),
        "{status}"
    );
    let motd = rig.machine("m1").read_text("/etc/trueup-demo/motd")?;
    ensure!(motd == "kept true by trueup\n", "{motd}");
    // The commit before stays wanted.
    rig.api()?
        .kubectl(&["-n", "web", "scale", "deployment/web", "--replicas=4"])?;
    eventually("the repair", SOON, || {
        let web = rig.api()?.get(&["-n", "web", "deployment", "web"])?;
        Ok((web["spec"]["replicas"] == 2).then_some(()))
    })?;
    take_back(rig)
}

/// k3s cannot change a cluster's token by its configuration: a server that is started
/// with another one does not come up.
fn another_token(rig: &Rig) -> Result<()> {
    let other = rig.keys.encrypt("token: another-token\n")?;
    rig.repo.write("secrets/edge.enc.yaml", &other)?;
    rig.repo
        .replace("base.yaml", "kept true by trueup", "kept true")?;
    let commit = rig.repo.push("another token")?;
    let verdict = rig.host().wait_decided(&commit, "apply/edge", ROLL_OUT)?;
    ensure!(verdict.state == "failure", "{verdict:?}");
    ensure!(verdict.description.contains("token"), "{verdict:?}");
    let motd = rig.machine("m2").read_text("/etc/trueup-demo/motd")?;
    ensure!(motd == "kept true\n", "the healthy rest goes on: {motd}");
    take_back(rig)
}

fn an_encrypted_file_that_was_changed_by_hand(rig: &Rig) -> Result<()> {
    let path = "apps/web/login.enc.yaml";
    let text = rig.repo.read(path)?;
    let line = text
        .lines()
        .find(|line| line.trim_start().starts_with("name:"))
        .context("the Secret has a name")?;
    // `metadata` is encrypted too here; a stanza of the MAC's own is not needed to break it.
    rig.repo.write(
        path,
        &text.replace(line, &format!("{line}\n    labels: {{by: hand}}")),
    )?;
    rig.repo.replace(
        "apps/web/web.yaml",
        "{index.html: hello}",
        "{index.html: good day}",
    )?;
    let commit = rig.repo.push("changed by hand")?;
    let verdict = rig.host().wait_decided(&commit, "apply/edge", ROLL_OUT)?;
    ensure!(verdict.state == "failure", "{verdict:?}");
    ensure!(
        verdict.description.contains("login.enc.yaml"),
        "{verdict:?}"
    );
    let page = rig.api()?.get(&["-n", "web", "configmap", "page"])?;
    ensure!(
        page["data"]["index.html"] == "good day",
        "the healthy rest goes on: {page}"
    );
    take_back(rig)
}

/// Waits until the status holds this.
fn wait_status(rig: &Rig, part: &str) -> Result<String> {
    eventually(&format!("{part:?} in the status"), SOON, || {
        let status = rig.host().trueup_ends("status", 0)?.stdout;
        ensure!(status.contains(part), "{status}");
        Ok(Some(status))
    })
}

fn a_rewound_branch(rig: &Rig, first: &str) -> Result<()> {
    let tip = rig.repo.git(&["rev-parse", "HEAD"])?;
    rig.repo.git(&["checkout", "-q", first])?;
    rig.repo.remove("apps/web/login.enc.yaml")?;
    let rewound = rig.repo.commit("another history")?;
    rig.repo
        .git(&["push", "-q", "--force", "origin", "HEAD:refs/heads/main"])?;
    let status = wait_status(rig, "the branch was rewound")?;
    ensure!(status.contains("trueup approve --commit"), "{status}");
    ensure!(!uids(rig)?.is_empty());
    rig.api()?.get(&["-n", "web", "secret", "login"])?;

    // Back again is what was accepted before: nothing to grant.
    rig.repo.git(&[
        "push",
        "-q",
        "--force",
        "origin",
        &format!("{tip}:refs/heads/main"),
    ])?;
    rig.host().wait_success(&tip, ROLL_OUT)?;
    eventually("no hold", SOON, || {
        Ok(rig.host().status()?["held"].is_null().then_some(()))
    })?;

    // What somebody wants all the same, they grant by name.
    rig.repo.git(&[
        "push",
        "-q",
        "--force",
        "origin",
        &format!("{rewound}:refs/heads/main"),
    ])?;
    wait_status(rig, "the branch was rewound")?;
    rig.host().trueup_ends(
        &format!("approve --commit {rewound} --reason 'wanted so'"),
        0,
    )?;
    // Its last word was that it is superseded; a new one comes.
    eventually("the granted commit", ROLL_OUT, || {
        let newest = rig.host().newest(&rewound, "converged")?;
        Ok(newest.filter(|verdict| verdict.state == "success"))
    })?;
    let login =
        rig.api()?
            .kubectl(&["-n", "web", "get", "secret", "--ignore-not-found", "login"])?;
    ensure!(login.is_empty(), "{login}");
    Ok(())
}

/// A commit that holds nothing.
fn an_emptied_branch(rig: &Rig) -> Result<()> {
    let objects =
        rig.api()?
            .kubectl(&["-n", "web", "get", "configmaps,deployments", "-o", "name"])?;
    rig.repo.git(&["rm", "-rq", "."])?;
    let commit = rig.repo.push("nothing")?;
    let verdict = rig.host().wait_decided(&commit, "converged", SOON)?;
    ensure!(verdict.state == "failure", "{verdict:?}");
    let now = rig
        .api()?
        .kubectl(&["-n", "web", "get", "configmaps,deployments", "-o", "name"])?;
    ensure!(now == objects, "{now}");
    take_back(rig)
}

fn a_repository_that_is_gone(rig: &Rig) -> Result<()> {
    let mgmt = rig.machine(MGMT);
    mgmt.sh("git --git-dir=/srv/fleet.git update-ref -d refs/heads/main")?;
    wait_status(rig, "main")?;
    mgmt.sh("mv /srv/fleet.git /srv/away.git")?;
    wait_status(rig, "/srv/fleet.git")?;
    mgmt.sh("mv /srv/away.git /srv/fleet.git")?;
    // It was watched under another inode, and is polled beside.
    rig.repo
        .replace("base.yaml", "kept true by trueup", "here again")?;
    let commit = rig.repo.push("here again")?;
    rig.host().wait_success(&commit, ROLL_OUT)?;
    let motd = rig.machine("m2").read_text("/etc/trueup-demo/motd")?;
    ensure!(motd == "here again\n", "{motd}");
    Ok(())
}

fn an_identity_that_does_not_fit(rig: &Rig) -> Result<()> {
    let mgmt = rig.machine(MGMT);
    mgmt.sh("cp -p /etc/trueup/age.key /etc/trueup/age.kept")?;
    let other = crate::rig::Keys::other_identity(&rig.bed.scratch()?)?;
    mgmt.put_file("/etc/trueup/age.key", 0o600, other)?;
    mgmt.sh("systemctl restart trueup")?;
    rig.repo
        .replace("base.yaml", "here again", "without keys")?;
    let commit = rig.repo.push("without keys")?;
    let verdict = rig.host().wait_decided(&commit, "apply/edge", ROLL_OUT)?;
    ensure!(verdict.state == "failure", "{verdict:?}");
    eventually("the healthy rest", SOON, || {
        let motd = rig.machine("m2").read_text("/etc/trueup-demo/motd")?;
        Ok((motd == "without keys\n").then_some(()))
    })?;
    let licence = rig.machine("m2").read_text("/etc/trueup-demo/licence")?;
    ensure!(licence == rig.keys.licence, "{licence:?}");
    mgmt.sh("mv /etc/trueup/age.kept /etc/trueup/age.key && chmod 644 /etc/trueup/age.key && systemctl stop trueup")?;
    let end = rig.host().trueup_ends("plan", 1)?;
    ensure!(end.stderr.contains("chmod 600"), "{}", end.stderr);
    mgmt.sh("chmod 600 /etc/trueup/age.key && systemctl start trueup")?;
    let commit = rig.repo.push("with keys")?;
    rig.host().wait_success(&commit, ROLL_OUT)
}

/// A second host on the same repo only reports, until somebody says otherwise; then
/// the first one does.
fn two_hosts(rig: &Rig) -> Result<()> {
    let (host, mgmt) = (rig.host(), rig.machine(MGMT));
    let second = "/var/lib/trueup/second";
    mgmt.put_file(
        "/etc/trueup/second.yaml",
        0o600,
        host.configuration("second", second, ""),
    )?;
    rig.repo.replace("m2.yaml", "z-m2", "cellar")?;
    mgmt.sh("systemctl stop trueup")?;
    rig.repo.push("a label")?;
    let as_second = "--config /etc/trueup/second.yaml";
    let plan = host.trueup_ends(&format!("plan {as_second}"), 0)?;
    ensure!(plan.stdout.contains("held by mgmt"), "{}", plan.stdout);
    let end = host.trueup(&format!("apply {as_second} --yes --wait-s 5"))?;
    ensure!(end.code != Some(0), "{}", end.stdout);
    ensure!(zone(rig)? == "z-m2");

    // One run of a state directory at a time, and the other one is named.
    host.start()?;
    let end = host.trueup_ends("apply --yes", 7)?;
    ensure!(end.stderr.contains("process"), "{}", end.stderr);
    let tip = rig.repo.git(&["rev-parse", "HEAD"])?;
    host.wait_success(&tip, ROLL_OUT)?;
    ensure!(zone(rig)? == "cellar");

    for unit in ["cluster/edge", "machine/mgmt"] {
        host.trueup_ends(
            &format!("claim {as_second} --take-over {unit} --reason 'the first host is retired'"),
            0,
        )?;
    }
    rig.repo.replace("m2.yaml", "cellar", "attic")?;
    host.stop()?;
    let commit = rig.repo.push("by the second host")?;
    host.trueup_ends(&format!("apply {as_second} --yes"), 0)?;
    ensure!(zone(rig)? == "attic");

    // Now the first one is the other one.
    rig.api()?.kubectl(&[
        "label",
        "--overwrite",
        "node",
        "m2",
        "example.org/zone=by-hand",
    ])?;
    host.start()?;
    let verdict = host.wait_decided(&commit, "apply/edge", ROLL_OUT)?;
    ensure!(verdict.state == "failure", "{verdict:?}");
    ensure!(
        verdict.description.contains("held by second"),
        "{verdict:?}"
    );
    ensure!(zone(rig)? == "by-hand");
    Ok(())
}

fn zone(rig: &Rig) -> Result<String> {
    let node = rig.api()?.get(&["node", "m2"])?;
    let zone = node["metadata"]["labels"]["example.org/zone"].as_str();
    Ok(zone.unwrap_or_default().to_owned())
}
