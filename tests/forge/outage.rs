//! The forge goes away, replies are lost, trueup is killed: the newest on the forge
//! is the last that was decided.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::rig::{Proxy, REPO, Rig, SOON, eventually, took};

/// After an outage the longest wait between two tries has to pass.
const RECOVERY: Duration = Duration::from_secs(100);

/// Ten seconds, or the minute of the issue.
fn outage() -> Duration {
    let long = std::env::var_os("TRUEUP_LONG").is_some();
    Duration::from_secs(if long { 60 } else { 10 })
}

#[test]
fn an_outage_and_a_restart_in_it() -> Result<()> {
    let mut rig = Rig::build()?;
    let first = rig.commit("the first state")?;
    rig.push("gitea", "main")?;
    rig.push("bare", "main")?;
    rig.configure(&rig.bare(), &rig.gitea.url(), "")?;
    rig.start()?;
    rig.wait_state(&first, "converged", "success")?;

    // The commits are known to the forge before it goes away; the branch is moved
    // where trueup looks.
    rig.change("one")?;
    let one = rig.commit("one")?;
    rig.change("two")?;
    let two = rig.commit("two")?;
    rig.push("gitea", "kept")?;
    rig.gitea.power_off()?;
    let begun = Instant::now();
    rig.git(&["push", "-q", "bare", &format!("{one}:refs/heads/main")])?;
    eventually("the decision in the notes", SOON, || {
        let decided = rig.decided(&one)?;
        Ok(decided
            .iter()
            .any(|(_, state, _)| state == "success")
            .then_some(()))
    })?;
    let status = eventually("the outage in the status", SOON, || {
        let status = rig.status()?;
        Ok(status.contains("wait for gitea").then_some(status))
    })?;
    eprintln!("{status}");
    rig.kill()?;
    rig.start()?;
    rig.git(&["push", "-q", "bare", &format!("{two}:refs/heads/main")])?;
    eventually("the decision after the restart", SOON, || {
        let decided = rig.decided(&two)?;
        Ok(decided
            .iter()
            .any(|(_, state, _)| state == "success")
            .then_some(()))
    })?;
    // The length of the outage is what is asked for, not a wait for something.
    eventually("the end of the outage", outage() * 2, || {
        Ok((begun.elapsed() >= outage()).then_some(()))
    })?;
    rig.gitea.power_on()?;
    let begun = Instant::now();
    rig.wait_true(&one, RECOVERY)?;
    rig.wait_true(&two, RECOVERY)?;
    took("the forge is back, to the last words on it", begun);
    let log = rig.log();
    let told = log.matches("verdicts are not delivered").count();
    ensure!((1..=8).contains(&told), "told {told} times");
    rig.search_secrets()
}

#[test]
fn lost_replies() -> Result<()> {
    let mut rig = Rig::build()?;
    let proxy = Proxy::start(rig.gitea.address())?;
    let mut commits = vec![rig.commit("the first state")?];
    rig.push("gitea", "main")?;
    rig.push("bare", "main")?;
    rig.configure(&rig.bare(), &proxy.url(), "")?;
    rig.start()?;
    rig.wait_true(&commits[0], RECOVERY)?;
    for round in 0..2 {
        rig.change(&format!("round {round}"))?;
        commits.push(rig.commit("a change")?);
        rig.push("gitea", "main")?;
        rig.push("bare", "main")?;
        if round == 1 {
            rig.kill()?;
            rig.start()?;
        }
        eventually("a decision", SOON, || {
            let decided = rig.decided(&commits[round + 1])?;
            Ok(decided
                .iter()
                .any(|(_, state, _)| state == "success")
                .then_some(()))
        })?;
        rig.wait_true(&commits[round + 1], RECOVERY)?;
    }
    let lost = proxy.lost();
    ensure!(lost > 0, "no reply was lost");
    let mut words = 0;
    for commit in &commits {
        rig.wait_true(commit, RECOVERY)?;
        let mut seen = Vec::new();
        for status in rig.gitea.statuses(REPO, commit)? {
            seen.push(format!(
                "{} {} {}",
                status["context"], status["status"], status["description"]
            ));
        }
        words += seen.len();
        let all = seen.len();
        seen.sort();
        seen.dedup();
        let twice = all - seen.len();
        ensure!(
            twice <= usize::try_from(lost)?,
            "{twice} words twice: {seen:?}"
        );
    }
    eprintln!("{lost} replies lost of {words} words on the forge");
    rig.search_secrets()
}

/// A forge that takes connections and says nothing does not hold up the loop.
#[test]
fn a_forge_that_hangs() -> Result<()> {
    let mut rig = Rig::build()?;
    let first = rig.commit("the first state")?;
    rig.push("gitea", "main")?;
    rig.push("bare", "main")?;
    rig.configure(&rig.bare(), &rig.gitea.url(), "")?;
    rig.start()?;
    rig.wait_state(&first, "converged", "success")?;
    rig.change("one")?;
    let one = rig.commit("one")?;
    rig.push("gitea", "main")?;
    rig.gitea.freeze()?;
    let begun = Instant::now();
    rig.push("bare", "main")?;
    eventually("the decision in the notes", SOON, || {
        let decided = rig.decided(&one)?;
        Ok(decided
            .iter()
            .any(|(_, state, _)| state == "success")
            .then_some(()))
    })?;
    let decided = took("push to the decision, beside a frozen forge", begun);
    ensure!(
        decided < Duration::from_secs(15),
        "the forge holds up the loop"
    );
    let begun = Instant::now();
    rig.status()?;
    ensure!(
        took("status", begun) < Duration::from_secs(5),
        "the loop is blocked"
    );
    rig.gitea.thaw()?;
    rig.wait_true(&one, RECOVERY)
}
