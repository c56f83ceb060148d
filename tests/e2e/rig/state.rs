//! The whole state of a fleet in a form that two runs on the same machines can be
//! compared by: what was declared, without what every start makes anew.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use trueup_bed::Machine;
use trueup_bed::digest::RESTLESS;

use super::Rig;

/// What k3s and its parts make anew: data, certificates, node passwords. And jobs and
/// epochs of trueup, which may differ: the ownership record is compared by its files.
const MADE_ANEW: [&str; 5] = [
    "/var/lib/rancher",
    "/var/lib/trueup",
    "/etc/rancher/k3s/k3s.yaml",
    "/etc/rancher/node",
    "/root",
];

/// Lines by what they are about.
pub(crate) type State = BTreeMap<String, String>;

/// The state of machines and cluster.
pub(crate) fn of(rig: &Rig) -> Result<State> {
    let mut state = State::new();
    for machine in rig.members() {
        of_machine(machine, &mut state)?;
    }
    let api = rig.api()?;
    for node in items(&api.get(&["nodes"])?)? {
        let name = name(&node)?;
        state.insert(
            format!("labels of {name}"),
            node["metadata"]["labels"].to_string(),
        );
        state.insert(
            format!("taints of {name}"),
            node["spec"]["taints"].to_string(),
        );
    }
    for object in items(&api.get(&["-n", "web", "configmaps,secrets,deployments"])?)? {
        let name = name(&object)?;
        if name == "kube-root-ca.crt" {
            continue;
        }
        let content = json!([object["data"], object["spec"], object["type"]]);
        state.insert(format!("{} {name}", object["kind"]), content.to_string());
    }
    let inventory = api.get(&["-n", "trueup-system", "configmap", "inventory-web"])?;
    let text = inventory["data"]["inventory"].as_str();
    let inventory: Value = serde_json::from_str(text.context("an inventory")?)?;
    let mut entries = Vec::new();
    for entry in inventory["entries"].as_array().into_iter().flatten() {
        ensure!(!entry["uid"].is_null(), "without UID: {entry}");
        entries.push(entry["object"].to_string());
    }
    entries.sort();
    state.insert("inventory".to_owned(), entries.join("\n"));
    Ok(state)
}

fn of_machine(machine: &Machine, state: &mut State) -> Result<()> {
    let name = machine.name();
    let mut exclude = RESTLESS.to_vec();
    exclude.extend(MADE_ANEW);
    for (path, entry) in machine.tree_digest(&exclude)?.entries {
        state.insert(format!("{name}:{path}"), entry);
    }
    let owner = machine.read_text("/var/lib/trueup/owner")?;
    let mut files: Vec<&str> = owner
        .lines()
        .filter(|line| line.starts_with("file"))
        .collect();
    files.sort_unstable();
    state.insert(format!("{name} owns"), files.join("\n"));
    let running = machine.sh(
        "systemctl show -p Id,ActiveState,UnitFileState k3s k3s-agent hello; cat /proc/sys/net/core/somaxconn; ls /var/lib/trueup/staged",
    )?;
    state.insert(format!("{name} runs"), running);
    Ok(())
}

/// Fails with the lines that differ.
pub(crate) fn ensure_equal(wanted: &State, is: &State) -> Result<()> {
    let keys = wanted.keys().chain(is.keys());
    let mut different: Vec<String> = keys
        .filter(|key| wanted.get(*key) != is.get(*key))
        .map(|key| format!("{key}: {:?}, not {:?}", is.get(key), wanted.get(key)))
        .collect();
    different.dedup();
    ensure!(
        different.is_empty(),
        "the states differ:\n{}",
        different.join("\n")
    );
    Ok(())
}

fn items(list: &Value) -> Result<Vec<Value>> {
    Ok(list["items"]
        .as_array()
        .context("a list has items")?
        .clone())
}

fn name(object: &Value) -> Result<String> {
    let name = object["metadata"]["name"].as_str();
    Ok(name.context("an object has a name")?.to_owned())
}
