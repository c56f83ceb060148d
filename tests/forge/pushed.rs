//! From a push to a word on the commit.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::rig::{HOOK_SECRET, REPO, Rig, Witness, took};

/// From the forge's hook to our word on it.
const PENDING_WITHIN: Duration = Duration::from_secs(1);
/// Pushes until one is that fast: a host that compiles has seconds without a turn.
const ROUNDS_MAX: u32 = 8;

/// Nothing listens on port 1.
const OFF: &str = "apiVersion: trueup.dev/v1alpha1
kind: Node
metadata: {name: m1}
spec:
  connection:
    ssh:
      address: 127.0.0.1
      port: 1
      hostKeys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS]
";

#[test]
fn a_push_is_pending_within_a_second_and_then_decided() -> Result<()> {
    let mut rig = Rig::build()?;
    let hook = format!("http://127.0.0.1:{}/hook", rig.hook_port);
    rig.gitea.new_hook(REPO, &hook, HOOK_SECRET)?;
    // How long the Gitea itself takes to say it is seen beside.
    let witness = Witness::start()?;
    rig.gitea.new_hook(REPO, &witness.url(), HOOK_SECRET)?;
    let first = rig.commit("the first state")?;
    rig.push("gitea", "main")?;
    rig.configure(&rig.gitea.fetch_url(REPO), &rig.gitea.url(), "")?;
    rig.start()?;
    rig.wait_state(&first, "converged", "success")?;

    decided(&rig)?;
    pending(&rig, &witness)?;
    a_cause(&rig)?;
    rig.search_secrets()
}

/// A fleet without machines is true at once.
fn decided(rig: &Rig) -> Result<()> {
    rig.change("one")?;
    let commit = rig.commit("a change")?;
    rig.push("gitea", "main")?;
    let begun = Instant::now();
    let newest = rig.wait_state(&commit, "converged", "success")?;
    took("push to the decision on the forge", begun);
    let link = format!("https://ci.example.org/{commit}");
    ensure!(newest["target_url"] == link.as_str(), "{newest}");
    Ok(())
}

/// A machine that is off keeps a commit pending, and that is said at once.
fn pending(rig: &Rig, witness: &Witness) -> Result<()> {
    rig.write("nodes/m1.yaml", OFF)?;
    for round in 0..ROUNDS_MAX {
        rig.change(&format!("round {round}"))?;
        let commit = rig.commit("a machine that is off")?;
        rig.push("gitea", "main")?;
        let begun = Instant::now();
        let newest = rig.wait_state(&commit, "converged", "pending")?;
        took("push to pending on the forge", begun);
        let needed = took("hook to pending on the forge", witness.last()?);
        let link = format!("https://ci.example.org/{commit}");
        ensure!(newest["target_url"] == link.as_str(), "{newest}");
        rig.wait_state(&commit, "apply/machines", "pending")?;
        if needed < PENDING_WITHIN {
            return rig.git(&["rm", "-q", "nodes/m1.yaml"]).map(drop);
        }
    }
    bail!("pending comes late, {ROUNDS_MAX} times")
}

/// A commit that cannot be used: failure, with file and line.
fn a_cause(rig: &Rig) -> Result<()> {
    rig.write(
        "nodes/m1.yaml",
        "apiVersion: trueup.dev/v1alpha1\nkind: Node\nmetadata: {name: m1}\nspec:\n  conection: {local: {}}\n",
    )?;
    let commit = rig.commit("a mistake")?;
    rig.push("gitea", "main")?;
    let verdict = rig.wait_state(&commit, "converged", "failure")?;
    let text = verdict["description"].as_str().unwrap_or_default();
    ensure!(text.starts_with("nodes/m1.yaml:5"), "{text}");
    rig.git(&["rm", "-q", "nodes/m1.yaml"])?;
    let right = rig.commit("put right")?;
    rig.push("gitea", "main")?;
    rig.wait_state(&right, "converged", "success")?;
    rig.wait_true(&commit, Duration::from_secs(10))
}
