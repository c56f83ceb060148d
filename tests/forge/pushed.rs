//! From a push to a word on the commit.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::rig::{HOOK_SECRET, REPO, Rig, eventually, took};

/// What the issue asks for; the host compiles and runs other tests meanwhile.
const PENDING_WITHIN: Duration = Duration::from_secs(1);
/// Pushes until one is that fast: a host that compiles has seconds without a turn.
const ROUNDS_MAX: u32 = 8;

#[test]
fn a_push_is_pending_within_a_second_and_then_decided() -> Result<()> {
    let mut rig = Rig::build()?;
    let hook = format!("http://127.0.0.1:{}/hook", rig.hook_port);
    rig.gitea.new_hook(REPO, &hook, HOOK_SECRET)?;
    let first = rig.commit("the first state")?;
    rig.push("gitea", "main")?;
    rig.configure(&rig.gitea.fetch_url(REPO), &rig.gitea.url(), "")?;
    rig.start()?;
    rig.wait_state(&first, "converged", "success")?;

    let mut fastest = Duration::MAX;
    for round in 0..ROUNDS_MAX {
        if fastest < PENDING_WITHIN {
            break;
        }
        rig.change(&format!("round {round}"))?;
        let commit = rig.commit("a change")?;
        rig.push("gitea", "main")?;
        let begun = Instant::now();
        eventually("the first word", Duration::from_secs(10), || {
            Ok((!rig.gitea.statuses(REPO, &commit)?.is_empty()).then_some(()))
        })?;
        fastest = fastest.min(took("push to the first word on the forge", begun));
        let newest = rig.wait_state(&commit, "converged", "success")?;
        took("push to the decision on the forge", begun);
        let all = rig.gitea.statuses(REPO, &commit)?;
        ensure!(all[0]["status"] == "pending", "{:?}", all[0]);
        let link = format!("https://ci.example.org/{commit}");
        ensure!(newest["target_url"] == link.as_str(), "{newest}");
    }
    ensure!(fastest < PENDING_WITHIN, "{fastest:?} at best");
    a_cause(&rig)?;
    rig.search_secrets()
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
