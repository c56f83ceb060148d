//! The demo: a config repo, a host configuration and a simulated fleet in a folder of
//! their own, and the real loop at work on them. What is printed is what the loop did;
//! the script only commits, and lets things happen to the fleet.

mod example;
mod folder;
mod repo;
mod script;
mod stage;

use std::sync::Arc;

use camino::Utf8PathBuf;
use trueup_sim::SimFleet;

use super::simulated::FleetFile;
use crate::cli::Failure;
use crate::cli::exit::Exit;
use folder::Folder;
use repo::Repo;
use stage::Stage;

/// What is asked for.
#[derive(Debug)]
pub struct Demo {
    /// Where everything lies.
    pub dir: Utf8PathBuf,
    /// Nothing takes any time.
    pub fast: bool,
}

/// The fleet's machines: those of the example, and a blank one beside them.
const MACHINES: [(&str, &str); 6] = [
    ("k3sc1", "192.0.2.11"),
    ("k3sc2", "192.0.2.12"),
    ("k3sc3", "192.0.2.13"),
    ("k3sw1", "192.0.2.21"),
    ("k3sw2", "192.0.2.22"),
    ("k3sw3", "192.0.2.23"),
];

/// Run the demo; `tell` prints.
///
/// # Errors
/// There is no git, the folder is not the demo's, or something of it went wrong.
pub async fn run(demo: Demo, tell: &(dyn Fn(&str) + Sync)) -> Result<Exit, Failure> {
    repo::check_git().await?;
    let folder = Folder::prepare(&demo.dir, tell)?;
    let repo = Repo::create(&folder.repo()).await?;
    let fleet = FleetFile::new(&folder.fleet());
    let pace = if demo.fast { 0 } else { 100 };
    let blank = SimFleet::blank(MACHINES, pace, super::clock::now_ms());
    fleet.create(blank).map_err(broken)?;
    let stage = Stage::open(&folder, Arc::new(fleet), demo.fast).await?;
    Box::pin(script::play(stage, &folder, &repo, tell)).await?;
    Ok(Exit::Done)
}

fn broken(why: impl std::fmt::Display) -> Failure {
    Failure::new("TU0918", format!("the demo: {why}"))
}
