//! Labels and taints: only what trueup wrote is ever removed.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::rig::{ROLL_OUT, Rig};

/// A taint of the kind that controllers set; none of the double's removes this one.
const FOREIGN: &str = "node.cloudprovider.kubernetes.io/uninitialized";

/// Somebody else's label and taint on `m5`.
pub(crate) fn strangers(rig: &Rig) -> Result<()> {
    let api = rig.api()?;
    api.kubectl(&["taint", "node", "m5", &format!("{FOREIGN}=true:NoSchedule")])?;
    api.kubectl(&["label", "node", "m5", "example.net/theirs=yes"])
        .map(drop)
}

/// The documents want a label and a taint of ours beside them.
pub(crate) fn declare(rig: &Rig) -> Result<()> {
    rig.repo.replace("m4.yaml", "z-m4", "attic")?;
    rig.repo.replace(
        "m5.yaml",
        "  labels: {example.org/zone: z-m5}\n",
        "  labels: {example.org/zone: z-m5, example.org/disk: ssd}\n  taints: [{key: example.org/dedicated, value: db, effect: NoSchedule}]\n",
    )
}

/// Once that is converged: everything of both sides is there.
pub(crate) fn are_beside_each_other(rig: &Rig) -> Result<()> {
    let (four, five) = (node(rig, "m4")?, node(rig, "m5")?);
    ensure!(label(&four, "example.org/zone") == Some("attic"), "{four}");
    ensure!(label(&five, "example.org/disk") == Some("ssd"), "{five}");
    ensure!(label(&five, "example.net/theirs") == Some("yes"), "{five}");
    let taints = taints(&five)?;
    ensure!(taints.contains(&FOREIGN.to_owned()), "{taints:?}");
    ensure!(
        taints.contains(&"example.org/dedicated".to_owned()),
        "{taints:?}"
    );
    Ok(())
}

/// A commit takes ours back: theirs stays.
pub(crate) fn only_ours_are_removed(rig: &Rig) -> Result<()> {
    rig.repo.replace(
        "m5.yaml",
        "  labels: {example.org/zone: z-m5, example.org/disk: ssd}\n  taints: [{key: example.org/dedicated, value: db, effect: NoSchedule}]\n",
        "",
    )?;
    let before = label_count(&node(rig, "m5")?);
    let commit = rig.repo.push("m5 is like the others")?;
    rig.host().wait_success(&commit, ROLL_OUT)?;
    let five = node(rig, "m5")?;
    ensure!(label(&five, "example.org/zone").is_none(), "{five}");
    ensure!(label(&five, "example.org/disk").is_none(), "{five}");
    ensure!(label(&five, "example.net/theirs") == Some("yes"), "{five}");
    ensure!(label_count(&five) + 2 == before, "{five}");
    ensure!(taints(&five)? == [FOREIGN], "{five}");
    Ok(())
}

fn node(rig: &Rig, name: &str) -> Result<Value> {
    rig.api()?.get(&["node", name])
}

fn label<'a>(node: &'a Value, key: &str) -> Option<&'a str> {
    node["metadata"]["labels"][key].as_str()
}

fn label_count(node: &Value) -> usize {
    node["metadata"]["labels"]
        .as_object()
        .map_or(0, serde_json::Map::len)
}

fn taints(node: &Value) -> Result<Vec<String>> {
    let list = node["spec"]["taints"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    list.iter()
        .map(|taint| {
            Ok(taint["key"]
                .as_str()
                .context("a taint has a key")?
                .to_owned())
        })
        .collect()
}
