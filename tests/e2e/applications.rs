//! Applications on a cluster: drift, deletions, broken manifests, crashes.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use serde_json::Value;

use crate::rig::{ROLL_OUT, Rig, Shape, audit, eventually, story};

const SOON: Duration = Duration::from_secs(40);
/// Objects of the Application `bulk`, and how many of them a commit takes away.
const BULK: usize = 60;
const GONE: usize = 40;
/// Objects of the Application that a crash meets.
const MANY: usize = 150;

#[test]
fn applications() -> Result<()> {
    story(Shape::ONE_AND_ONE, |rig| {
        rig.host().configure("", "apply: {deadlineS: 120}\n")?;
        add_application(rig, "bulk", BULK)?;
        rig.converge()?;
        ensure!(count(rig, "bulk")? == BULK);
        a_scale_is_seen_and_repaired(rig)?;
        many_deletions_wait_for_somebody(rig)?;
        a_broken_manifest_stops_no_other(rig)?;
        a_crash_orphans_nothing(rig)?;
        a_document_that_vanished_and_one_that_is_removed(rig)?;
        commits_in_quick_succession(rig)
    })
}

/// An Application with a Namespace of its name and so many ConfigMaps.
fn add_application(rig: &Rig, name: &str, objects: usize) -> Result<()> {
    rig.repo.write(
        &format!("{name}.yaml"),
        &format!(
            "apiVersion: trueup.dev/v1alpha1
kind: Application
metadata: {{name: {name}}}
spec:
  cluster: edge
  namespace: {name}
  source: {{path: apps/{name}}}
"
        ),
    )?;
    rig.repo.write(
        &format!("apps/{name}/namespace.yaml"),
        &format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n"),
    )?;
    for number in 0..objects {
        rig.repo
            .write(&file(name, number), &config_map(&format!("c{number}")))?;
    }
    Ok(())
}

fn file(app: &str, number: usize) -> String {
    format!("apps/{app}/c{number}.yaml")
}

fn config_map(name: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{a: b}}\n")
}

/// ConfigMaps of an Application that are there.
fn count(rig: &Rig, app: &str) -> Result<usize> {
    let names = rig
        .api()?
        .kubectl(&["-n", app, "get", "configmaps", "-o", "name"])?;
    Ok(names
        .lines()
        .filter(|name| name.starts_with("configmap/c"))
        .count())
}

fn scale(rig: &Rig, replicas: usize) -> Result<()> {
    let replicas = format!("--replicas={replicas}");
    rig.api()?
        .kubectl(&["-n", "web", "scale", "deployment/web", &replicas])
        .map(drop)
}

fn wait_repaired(rig: &Rig) -> Result<()> {
    eventually("the repair", SOON, || {
        let web = rig.api()?.get(&["-n", "web", "deployment", "web"])?;
        Ok((web["spec"]["replicas"] == 2).then_some(()))
    })
}

/// The times are the API server's own: from the foreign change to trueup's request.
fn a_scale_is_seen_and_repaired(rig: &Rig) -> Result<()> {
    let mark = audit::mark(rig);
    scale(rig, 5)?;
    wait_repaired(rig)?;
    let events = audit::events_since(rig, &mark)?;
    let change = |ours: bool| {
        let event = events.iter().find(|event| {
            let uri = event["requestURI"].as_str().unwrap_or_default();
            let agent = event["userAgent"].as_str().unwrap_or_default();
            event["verb"] == "patch"
                && uri.contains("/deployments/web")
                && agent.starts_with("trueup/") == ours
        });
        let at = event.and_then(|event| event["requestReceivedTimestamp"].as_str());
        let at: Timestamp = at.context("the change is in the audit log")?.parse()?;
        anyhow::Ok(at)
    };
    let seen = change(true)?.duration_since(change(false)?);
    eprintln!("a foreign scale was answered after {} ms", seen.as_millis());
    ensure!(seen.as_millis() < 2000, "{seen:?}");
    Ok(())
}

fn many_deletions_wait_for_somebody(rig: &Rig) -> Result<()> {
    let host = rig.host();
    for number in 0..GONE {
        rig.repo.remove(&file("bulk", number))?;
    }
    let commit = rig.repo.push("forty of sixty")?;
    let waits = format!("{GONE} of 61 objects of bulk would be deleted");
    let verdict = eventually("the verdict", SOON, || {
        let verdict = host.newest(&commit, "apply/edge")?;
        Ok(verdict.filter(|verdict| verdict.description.contains(&waits)))
    })?;
    ensure!(verdict.state != "success", "{verdict:?}");
    // Every foreign change is another pass.
    let passes = if std::env::var_os("TRUEUP_LONG").is_some() {
        100
    } else {
        10
    };
    for pass in 0..passes {
        scale(rig, 3 + pass % 3)?;
        wait_repaired(rig)?;
        ensure!(count(rig, "bulk")? == BULK, "after pass {pass}");
    }
    let status = host.trueup_ends("status", 0)?.stdout;
    ensure!(
        status.contains("trueup approve --deletions bulk"),
        "{status}"
    );
    let plan = host.trueup_ends("plan", 0)?.stdout;
    for number in 0..GONE {
        let name = format!("ConfigMap/bulk/c{number}\n");
        ensure!(plan.contains(&name), "deletions by full name: {plan}");
    }

    // A grant outlives heartbeats, changes of other objects, and a restart.
    host.stop()?;
    host.trueup_ends("approve --deletions bulk --reason 'they are retired'", 0)?;
    ensure!(count(rig, "bulk")? == BULK, "a grant alone deletes nothing");
    for replicas in 3..6 {
        scale(rig, replicas)?;
    }
    host.start()?;
    host.wait_success(&commit, ROLL_OUT)?;
    ensure!(count(rig, "bulk")? == BULK - GONE);
    wait_repaired(rig)
}

fn a_broken_manifest_stops_no_other(rig: &Rig) -> Result<()> {
    rig.repo.write(
        "apps/bulk/broken.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Not_A_Name}\n",
    )?;
    rig.repo
        .write("apps/bulk/good.yaml", &config_map("c1000"))?;
    let commit = rig.repo.push("one is broken")?;
    let verdict = rig.host().wait_decided(&commit, "apply/edge", ROLL_OUT)?;
    ensure!(verdict.state == "failure", "{verdict:?}");
    ensure!(verdict.description.contains("Not_A_Name"), "{verdict:?}");
    rig.api()?.get(&["-n", "bulk", "configmap", "c1000"])?;
    rig.repo.remove("apps/bulk/broken.yaml")?;
    let commit = rig.repo.push("it is gone")?;
    rig.host().wait_success(&commit, ROLL_OUT)
}

/// kill -9 in the middle of a large apply; the next commit takes all of it away
/// again: what was created and never recorded goes too.
fn a_crash_orphans_nothing(rig: &Rig) -> Result<()> {
    let host = rig.host();
    add_application(rig, "many", MANY)?;
    rig.repo.push("many")?;
    eventually("the first objects", SOON, || {
        Ok((count(rig, "many")? > 0).then_some(()))
    })?;
    host.kill_and_stop()?;
    let created = count(rig, "many")?;
    let recorded = recorded(rig, "many")?;
    eprintln!("kill -9 with {created} of {MANY} objects created, {recorded} recorded with UID");
    for number in 0..MANY {
        rig.repo.remove(&file("many", number))?;
    }
    let commit = rig.repo.push("many no more")?;
    host.start()?;
    // A tenth of what the inventory announced: the Namespace and all the others.
    let budget = (MANY + 1) / 10;
    if created > budget {
        eventually("the budget's hold", SOON, || {
            let status = host.trueup_ends("status", 0)?.stdout;
            Ok(status.contains("approve --deletions many").then_some(()))
        })?;
        ensure!(count(rig, "many")? == created);
        host.trueup_ends("approve --deletions many --reason 'a mistake'", 0)?;
    }
    host.wait_success(&commit, ROLL_OUT)?;
    ensure!(count(rig, "many")? == 0);
    Ok(())
}

/// Entries of the inventory that have a UID.
fn recorded(rig: &Rig, app: &str) -> Result<usize> {
    let name = format!("inventory-{app}");
    let object = rig
        .api()?
        .get(&["-n", "trueup-system", "configmap", &name])?;
    let text = object["data"]["inventory"].as_str();
    let inventory: Value = serde_json::from_str(text.context("an inventory")?)?;
    let entries = inventory["entries"].as_array().context("entries")?;
    let with_uid = entries.iter().filter(|entry| !entry["uid"].is_null());
    Ok(with_uid.count())
}

/// A vanished document deletes nothing and is told; `state: removed` deletes after a
/// grant, and the Namespace last.
fn a_document_that_vanished_and_one_that_is_removed(rig: &Rig) -> Result<()> {
    let host = rig.host();
    let document = rig.repo.read("bulk.yaml")?;
    let before = count(rig, "bulk")?;
    rig.repo.remove("bulk.yaml")?;
    let commit = rig.repo.push("bulk is not named any more")?;
    host.wait_success(&commit, ROLL_OUT)?;
    let status = host.trueup_ends("status", 0)?.stdout;
    ensure!(status.contains("its document is gone"), "{status}");
    ensure!(count(rig, "bulk")? == before);

    rig.repo
        .write("bulk.yaml", &format!("{document}  state: removed\n"))?;
    let commit = rig.repo.push("bulk is to go")?;
    eventually("the hold", SOON, || {
        let status = host.trueup_ends("status", 0)?.stdout;
        Ok(status.contains("it needs a grant").then_some(()))
    })?;
    ensure!(count(rig, "bulk")? == before);
    host.trueup_ends("approve --deletions bulk --reason 'it is retired'", 0)?;
    host.wait_success(&commit, ROLL_OUT)?;
    let left = rig.api()?.kubectl(&[
        "get",
        "namespace",
        "bulk",
        "--ignore-not-found",
        "-o",
        "name",
    ])?;
    ensure!(left.is_empty(), "{left}");
    Ok(())
}

/// Only the tip is converged; what was seen before it ends as superseded.
fn commits_in_quick_succession(rig: &Rig) -> Result<()> {
    let host = rig.host();
    let mut before = "hello".to_owned();
    let mut commits = Vec::new();
    for number in 1..=3 {
        let text = format!("number {number}");
        rig.repo.replace("apps/web/web.yaml", &before, &text)?;
        commits.push(rig.repo.push(&text)?);
        before = text;
    }
    let tip = commits.pop().context("there are three")?;
    host.wait_success(&tip, ROLL_OUT)?;
    let page = rig.api()?.get(&["-n", "web", "configmap", "page"])?;
    ensure!(page["data"]["index.html"] == "number 3", "{page}");
    for commit in commits {
        let mut newest = std::collections::BTreeMap::new();
        for verdict in host.verdicts(&commit)? {
            newest.insert(verdict.context.clone(), verdict);
        }
        for verdict in newest.values() {
            ensure!(verdict.state != "pending", "{verdict:?}");
        }
    }
    Ok(())
}
