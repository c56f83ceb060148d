//! From blank machines to a converged fleet by one `git push`; a plan changes
//! nothing; labels and taints.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::rig::{ROLL_OUT, Rig, Shape, story};
use crate::{labels, looking};

#[test]
fn blank_machines_become_a_fleet() -> Result<()> {
    story(Shape::THREE_AND_TWO, |rig| {
        let commit = rig.repo.push("the first state")?;
        let forecast = forecast(rig)?;
        rig.host().start()?;
        rig.host().wait_success(&commit, ROLL_OUT)?;
        fleet_is_whole(rig)?;
        executed_as_forecast(rig, &forecast)?;
        rig.host().stop()?;
        nothing_is_left_to_do(rig)?;

        labels::strangers(rig)?;
        labels::declare(rig)?;
        other_changes(rig)?;
        let commit = rig.repo.push("labels, a taint, and some more")?;
        looking::a_plan_changes_nothing(rig)?;
        looking::a_plan_with_a_credential_that_may_only_read(rig)?;
        rig.host().start()?;
        rig.host().wait_success(&commit, ROLL_OUT)?;
        labels::are_beside_each_other(rig)?;
        labels::only_ours_are_removed(rig)
    })
}

/// A file, a kernel setting, and an object that is changed, added and removed.
fn other_changes(rig: &Rig) -> Result<()> {
    let repo = &rig.repo;
    repo.replace(
        "base.yaml",
        "kept true by trueup",
        "kept very true by trueup",
    )?;
    repo.replace("base.yaml", "\"1024\"", "\"2048\"")?;
    repo.replace(
        "apps/web/web.yaml",
        "{index.html: hello}",
        "{index.html: hello again}",
    )?;
    repo.remove("apps/web/login.enc.yaml")?;
    repo.write(
        "apps/web/more.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: more}\ndata: {a: b}\n",
    )
}

/// Ids of the steps that a saved plan names.
fn forecast(rig: &Rig) -> Result<Vec<String>> {
    rig.host().trueup_ends("plan --out /root/plan.json", 0)?;
    let plan: Value = serde_json::from_slice(&rig.host().machine().read_file("/root/plan.json")?)?;
    let mut ids = Vec::new();
    let units = plan["units"].as_array().context("a plan has units")?;
    for unit in units {
        let frontier = unit["frontier"]["ready"].as_array().into_iter().flatten();
        let later = unit["forecast"].as_array().into_iter().flatten();
        let later = later.filter_map(Value::as_array).flatten();
        for step in frontier.chain(later) {
            ids.push(step["id"].as_str().context("a step has an id")?.to_owned());
        }
    }
    Ok(ids)
}

fn fleet_is_whole(rig: &Rig) -> Result<()> {
    let api = rig.api()?;
    ensure!(api.ready_nodes()? == rig.shape.members());
    let voters = api.kubectl(&[
        "get",
        "nodes",
        "-l",
        "node-role.kubernetes.io/etcd",
        "-o",
        "jsonpath={.items[*].status.conditions[?(@.type=='EtcdIsVoter')].status}",
    ])?;
    ensure!(
        voters.split_whitespace().count() == rig.shape.servers,
        "{voters}"
    );
    let deployment = api.get(&["-n", "web", "deployment", "web"])?;
    ensure!(
        deployment["status"]["availableReplicas"] == 2,
        "{deployment}"
    );
    let log = rig.host().machine().sh(
        "git --git-dir=/var/lib/trueup/host/mirror.git log --notes=trueup -1 $(git --git-dir=/srv/fleet.git rev-parse main)",
    )?;
    ensure!(log.contains("trueup/home/converged success"), "{log}");
    Ok(())
}

fn executed_as_forecast(rig: &Rig, forecast: &[String]) -> Result<()> {
    let performed = rig.host().performed()?;
    let wrong: Vec<_> = performed.iter().filter(|step| !step.is_done()).collect();
    ensure!(wrong.is_empty(), "undisturbed, and yet: {wrong:#?}");
    let done: Vec<&str> = performed.iter().map(|step| step.id.as_str()).collect();
    let (forecast_set, done_set): (BTreeSet<&str>, BTreeSet<&str>) = (
        forecast.iter().map(String::as_str).collect(),
        done.iter().copied().collect(),
    );
    let surplus: Vec<&str> = performed
        .iter()
        .filter(|step| !forecast_set.contains(step.id.as_str()))
        .map(|step| step.line.as_str())
        .collect();
    ensure!(
        forecast_set == done_set && forecast.len() == done.len(),
        "{} steps forecast, {} performed; not forecast: {surplus:#?}; not performed: {:?}",
        forecast.len(),
        done.len(),
        forecast_set.difference(&done_set).collect::<Vec<_>>()
    );
    Ok(())
}

fn nothing_is_left_to_do(rig: &Rig) -> Result<()> {
    let plan = rig.host().trueup_ends("plan --detailed-exitcode", 0)?;
    ensure!(plan.stdout.contains("no changes"), "{}", plan.stdout);
    Ok(())
}
