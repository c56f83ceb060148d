//! The script: what is committed and what happens, chapter by chapter.

use trueup_core::config;
use trueup_drivers::git::objects;
use trueup_model::id::{CommitId, UnitId};
use trueup_model::port::store::VerdictRecord;
use trueup_model::verdict::VerdictState;
use trueup_sim::Fault;

use super::broken;
use super::folder::Folder;
use super::repo::{Repo, git};
use super::stage::{Stage, has, is_final};
use crate::app::view::held_line;
use crate::cli::{Failure, findings_text};

type Tell<'a> = &'a (dyn Fn(&str) + Sync);

/// The release after the example's.
const NEXT: &str = "v1.36.4+k3s1";
const NOW: &str = "v1.36.3+k3s1";

/// Play it to the end.
pub(super) async fn play(
    mut stage: Stage,
    folder: &Folder,
    repo: &Repo,
    tell: Tell<'_>,
) -> Result<(), Failure> {
    tell(&format!(
        "A simulated fleet: six blank machines, no network. Everything else is the real program:\n\
         the loop of `trueup run`, in this process, on the config repo {}.",
        folder.repo()
    ));
    let first = from_nothing(&mut stage, repo, tell).await?;
    drift(&mut stage, repo, &first, tell).await?;
    bad_commit(&mut stage, repo, tell).await?;
    upgrade(&mut stage, repo, tell).await?;
    statuses(&mut stage, folder, tell).await?;
    farewell(folder, tell);
    Ok(())
}

async fn chapter(stage: &Stage, tell: Tell<'_>, title: &str) {
    stage.pause().await;
    tell(&format!("\n== {title}"));
}

/// Every word on a commit so far, its context without the fleet.
fn said(record: &VerdictRecord) -> String {
    format!(
        "  {}: {} — {}",
        record.verdict.context,
        record.verdict.state.as_str(),
        record.verdict.description
    )
}

async fn converge(stage: &mut Stage, commit: &CommitId, tell: Tell<'_>) -> Result<(), Failure> {
    let record = stage.until(commit, "converged", tell, is_final).await?;
    tell(&said(&record));
    if record.verdict.state == VerdictState::Success {
        return Ok(());
    }
    Err(broken(record.verdict.description))
}

async fn from_nothing(stage: &mut Stage, repo: &Repo, tell: Tell<'_>) -> Result<CommitId, Failure> {
    chapter(stage, tell, "1. From nothing: the first commit").await;
    let commit = repo.commit("Three servers, two agents, a web page").await?;
    let loaded = load(stage, &commit).await?;
    tell(&format!(
        "$ trueup validate\n{}",
        findings_text(&loaded).trim_end()
    ));
    tell("$ trueup plan");
    tell(stage.plan().await?.trim_end());
    stage.pause().await;
    tell("$ trueup run");
    stage.start();
    converge(stage, &commit, tell).await?;
    Ok(commit)
}

/// A commit's findings, read out of the mirror as the loop reads them.
async fn load(stage: &Stage, commit: &CommitId) -> Result<config::Loaded, Failure> {
    let url = stage.repo_url();
    git(&stage.mirror, &["fetch", "-q", &url, "main"])
        .await
        .map_err(broken)?;
    let tree = objects::read_tree(&stage.mirror, commit.as_str()).map_err(broken)?;
    Ok(config::load(&tree, Some("lab")))
}

async fn drift(
    stage: &mut Stage,
    repo: &Repo,
    commit: &CommitId,
    tell: Tell<'_>,
) -> Result<(), Failure> {
    chapter(stage, tell, "2. Drift: somebody changes things by hand").await;
    tell("$ kubectl -n hello scale deployment web --replicas=5      # at three in the morning");
    stage.befall(&Fault::Scale {
        namespace: "hello".to_owned(),
        name: "web".to_owned(),
        replicas: 5,
    })?;
    let found = stage
        .until(commit, "drift/edge", tell, has(VerdictState::Failure))
        .await?;
    tell(&said(&found));
    let gone = stage
        .until(commit, "drift/edge", tell, has(VerdictState::Success))
        .await?;
    tell(&said(&gone));
    stage.pause().await;
    tell("k3sw1$ echo hi >/etc/motd\nk3sw2$ systemctl stop k3s-agent.service");
    stage.befall(&Fault::EditFile {
        machine: "k3sw1".to_owned(),
        path: "/etc/motd".to_owned(),
        content: "hi\n".to_owned(),
    })?;
    stage.befall(&Fault::StopUnit {
        machine: "k3sw2".to_owned(),
        unit: "k3s-agent.service".to_owned(),
    })?;
    let unit: UnitId = "cluster/edge".parse().map_err(broken)?;
    stage.nudge(&unit);
    let found = stage
        .until(commit, "drift/edge", tell, has(VerdictState::Failure))
        .await?;
    tell(&said(&found));
    stage.settle().await;
    for held in &stage.rest.held {
        tell(&format!("  held     {}", held_line(held)));
    }
    stage.pause().await;
    repo.replace("fleet.yaml", "correctDrift: false", "correctDrift: true")?;
    let commit = repo.commit("Put right what drifts").await?;
    tell(&repo.shown().await?);
    converge(stage, &commit, tell).await
}

async fn bad_commit(stage: &mut Stage, repo: &Repo, tell: Tell<'_>) -> Result<(), Failure> {
    chapter(stage, tell, "3. A bad commit: refused, and nothing changes").await;
    repo.replace("cluster.yaml", "maxUnavailable: 1", "maxUnavailabel: 2")?;
    let commit = repo.commit("Two agents at a time").await?;
    tell(&repo.shown().await?);
    let record = stage.until(&commit, "validate", tell, is_final).await?;
    tell(findings_text(&load(stage, &commit).await?).trim_end());
    tell(&said(&record));
    Ok(())
}

async fn upgrade(stage: &mut Stage, repo: &Repo, tell: Tell<'_>) -> Result<(), Failure> {
    chapter(
        stage,
        tell,
        "4. An upgrade: the mistake taken back, and k3s a patch newer",
    )
    .await;
    repo.replace("cluster.yaml", "maxUnavailabel: 2", "maxUnavailable: 1")?;
    repo.replace("cluster.yaml", NOW, NEXT)?;
    let commit = repo.commit("k3s 1.36.4").await?;
    tell(&repo.shown().await?);
    converge(stage, &commit, tell).await
}

async fn statuses(stage: &mut Stage, folder: &Folder, tell: Tell<'_>) -> Result<(), Failure> {
    chapter(stage, tell, "5. What was said of each commit: plain git").await;
    stage.stop().await?;
    let args = [
        "log",
        "--notes=trueup",
        "--format=%h %s%n%N",
        "refs/trueup/fetched/main",
    ];
    tell(&format!(
        "$ git -C {} log --notes=trueup --format='%h %s%n%N' refs/trueup/fetched/main",
        folder.state().join("mirror.git")
    ));
    let text = git(&stage.mirror, &args).await.map_err(broken)?;
    tell(text.trim_end());
    Ok(())
}

fn farewell(folder: &Folder, tell: Tell<'_>) {
    let (config, repo) = (folder.config(), folder.repo());
    tell(&format!(
        "\nThe fleet stays, and is yours. From any shell:
  trueup --config {config} status
  trueup --config {config} plan
Change something, say the zone of a machine, and carry it out:
  sed -i 's/zone: pve1/zone: pve3/' {repo}/nodes/k3sw1.yaml
  git -C {repo} commit -am 'k3sw1 has moved'
  trueup --config {config} plan
  trueup --config {config} apply --yes
A blank machine waits at 192.0.2.23. `trueup --config {config} run` keeps all of it true."
    ));
}
