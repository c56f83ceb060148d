//! Plans of branches beside the tracked one.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::rig::{HOOK_SECRET, REPO, Rig, eventually};

#[test]
fn a_branch_gets_a_plan_and_nothing_else() -> Result<()> {
    let mut rig = Rig::build()?;
    let hook = format!("http://127.0.0.1:{}/hook", rig.hook_port);
    rig.gitea.new_hook(REPO, &hook, HOOK_SECRET)?;
    let tracked = rig.commit("the first state")?;
    rig.push("gitea", "main")?;
    let more = "plan: {branches: [\"feature/*\"]}\n";
    rig.configure(&rig.gitea.fetch_url(REPO), &rig.gitea.url(), more)?;
    rig.start()?;
    rig.wait_state(&tracked, "plan", "success")?;

    rig.change("branch")?;
    let good = rig.commit("an idea")?;
    rig.push("gitea", "feature/idea")?;
    let plan = rig.wait_state(&good, "plan", "success")?;
    ensure!(plan["description"] == "no changes", "{plan}");

    rig.write("fleet.yaml", "apiVersion: trueup.dev/v1alpha1\nkind: Fleet\nmetadata: {name: home}\nspec: {switches: {rolOut: true}}\n")?;
    let bad = rig.commit("a mistake")?;
    rig.push("gitea", "feature/mistake")?;
    rig.push("gitea", "elsewhere")?;
    let plan = rig.wait_state(&bad, "plan", "failure")?;
    let text = plan["description"].as_str().unwrap_or_default();
    ensure!(text.starts_with("fleet.yaml:4"), "{text}");

    // The branch is not what is true: its tips have this one word and no other.
    for commit in [&good, &bad] {
        let all = rig.gitea.statuses(REPO, commit)?;
        ensure!(all.len() == 1, "{all:?}");
    }
    ensure!(rig.status()?.contains(&tracked[..10]), "{}", rig.status()?);

    // Merged, it is judged like every tip.
    rig.git(&["push", "-q", "gitea", &format!("{good}:refs/heads/main")])?;
    rig.wait_state(&good, "converged", "success")?;
    let status = eventually("the tip", Duration::from_secs(10), || {
        let status = rig.status()?;
        Ok(status.contains(&good[..10]).then_some(status))
    })?;
    ensure!(!status.contains("mistake"), "{status}");
    Ok(())
}
