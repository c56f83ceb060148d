//! What a forge or a host configuration says no to: one message, the next thing to
//! do, and trueup goes on.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::rig::{REPO, Rig, SOON, eventually};

/// A person puts the right token in; the first tries come after 15 and 30 seconds.
const NEXT_TRY: Duration = Duration::from_secs(60);

#[test]
fn a_token_without_the_scope_is_told_and_a_new_one_is_taken() -> Result<()> {
    let mut rig = Rig::build()?;
    let weak = rig.gitea.new_token("weak", "read:repository")?;
    let right = rig.token.clone();
    rig.put_token(&weak, 0o600)?;
    let commit = rig.commit("the first state")?;
    rig.push("gitea", "main")?;
    rig.configure(&rig.gitea.fetch_url(REPO), &rig.gitea.url(), "")?;
    rig.start()?;
    let status = eventually("the missing scope in the status", SOON, || {
        let status = rig.status()?;
        Ok(status.contains("write:repository").then_some(status))
    })?;
    eprintln!("{status}");
    let told = rig.log().matches("verdicts are not delivered").count();
    ensure!(told == 1, "told {told} times");
    ensure!(rig.gitea.statuses(REPO, &commit)?.is_empty());
    // No restart: the file is read at every request.
    rig.put_token(&right, 0o600)?;
    rig.wait_true(&commit, NEXT_TRY)?;
    rig.token = weak;
    rig.search_secrets()?;
    rig.token = right;
    rig.search_secrets()
}

#[test]
fn what_is_unknown_there() -> Result<()> {
    let mut rig = Rig::build()?;
    let commit = rig.commit("the first state")?;
    rig.push("bare", "main")?;
    rig.configure(&rig.bare(), &rig.gitea.url(), "")?;
    rig.start()?;
    // The commit is not pushed there yet; Gitea calls that an internal error.
    let status = eventually("the unknown commit in the status", SOON, || {
        let status = rig.status()?;
        Ok(status
            .contains("does not know the commit")
            .then_some(status))
    })?;
    eprintln!("{status}");
    rig.push("gitea", "main")?;
    rig.wait_true(&commit, Duration::from_secs(60))?;

    rig.kill()?;
    let text = std::fs::read_to_string(rig.path("trueup.yaml"))?;
    std::fs::write(rig.path("trueup.yaml"), text.replace("/fleet,", "/flet,"))?;
    rig.change("one")?;
    rig.commit("one")?;
    rig.push("bare", "main")?;
    rig.start()?;
    eventually("the unknown repository in the status", SOON, || {
        let status = rig.status()?;
        Ok(status.contains("there is no such repository").then_some(()))
    })
}

#[test]
fn files_that_others_can_read_stop_the_start() -> Result<()> {
    let rig = Rig::build()?;
    rig.commit("the first state")?;
    rig.push("bare", "main")?;
    rig.configure(&rig.bare(), &rig.gitea.url(), "")?;
    rig.put_token(&rig.token, 0o644)?;
    for (code, part, mend) in [
        ("TU0930", "chmod 600", true),
        ("TU0931", "hook.secret", false),
    ] {
        let output = rig.trueup(&["run"]).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(1), "{said}");
        ensure!(said.contains(code) && said.contains(part), "{said}");
        ensure!(!said.contains(&rig.token), "the token is shown");
        if mend {
            rig.put_token(&rig.token, 0o600)?;
            std::fs::remove_file(rig.path("hook.secret"))?;
        }
    }
    Ok(())
}
