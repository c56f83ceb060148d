//! The rig of a story: machines, releases, a config repo, keys, and trueup on the
//! machine `mgmt`.

mod api;
pub(crate) mod audit;
mod documents;
pub(crate) mod downtime;
mod host;
mod journal;
mod keys;
pub(crate) mod prober;
mod repo;
pub(crate) mod roll;
pub(crate) mod state;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use trueup_bed::cache::Cache;
use trueup_bed::wait::wait_for;
use trueup_bed::{Bed, BedSpec, Machine, ReleaseServer};

pub(crate) use api::Api;
pub(crate) use documents::key_of;
pub(crate) use host::{Host, STATE, Verdict, program};
pub(crate) use keys::Keys;
pub(crate) use repo::ConfigRepo;

/// The release that the documents ask for.
pub(crate) const VERSION: &str = "v1.36.3+k3s1";
/// The machine that trueup runs on.
pub(crate) const MGMT: &str = "mgmt";
/// A roll-out of five machines takes a minute on two idle cores; other tests compile
/// and run beside it.
pub(crate) const ROLL_OUT: Duration = Duration::from_secs(300);

/// How many machines a story needs: `m1`, `m2`, … servers first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) servers: usize,
    pub(crate) agents: usize,
}

impl Shape {
    pub(crate) const THREE_AND_TWO: Self = Self {
        servers: 3,
        agents: 2,
    };
    /// A server, and agents of which one may be ill.
    pub(crate) const ONE_AND_TWO: Self = Self {
        servers: 1,
        agents: 2,
    };
    /// As small as a cluster with an agent can be.
    pub(crate) const ONE_AND_ONE: Self = Self {
        servers: 1,
        agents: 1,
    };

    /// Names of the members, servers first.
    pub(crate) fn members(self) -> Vec<String> {
        (1..=self.servers + self.agents)
            .map(|number| format!("m{number}"))
            .collect()
    }
}

/// Everything a story stands on. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) shape: Shape,
    pub(crate) keys: Keys,
    pub(crate) repo: ConfigRepo,
    pub(crate) releases: ReleaseServer,
    pub(crate) bed: Bed,
}

/// Builds a rig and tells a story on it; when the story fails, what trueup and its
/// machines said is added to the error.
pub(crate) fn story(shape: Shape, tell: impl FnOnce(&Rig) -> Result<()>) -> Result<()> {
    let rig = Rig::build(shape)?;
    tell(&rig).map_err(|error| error.context(rig.diagnosis()))
}

impl Rig {
    /// Machines that are on and blank, a repo that is not pushed, and trueup
    /// installed and not started.
    pub(crate) fn build(shape: Shape) -> Result<Self> {
        let mut names = shape.members();
        names.push(MGMT.to_owned());
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let spec = BedSpec::named(&names).bind_ro(Cache::locate().bin()?, "/opt/k8s");
        let bed = Bed::build(&spec)?;
        let scratch = bed.scratch()?;
        let keys = Keys::make(&scratch)?;
        let releases = releases(&bed, &scratch)?;
        host::install(&bed, &keys)?;
        bed.power_on_all()?;
        let repo = ConfigRepo::make(&bed, &scratch.join("repo"))?;
        let rig = Self {
            shape,
            keys,
            repo,
            releases,
            bed,
        };
        rig.host().configure("", "")?;
        documents::write(&rig)?;
        Ok(rig)
    }

    pub(crate) fn machine(&self, name: &str) -> &Machine {
        self.bed.machine(name)
    }

    /// trueup and its machine.
    pub(crate) fn host(&self) -> Host<'_> {
        Host { rig: self }
    }

    /// The cluster's API, as an administrator on the test's own host reaches it.
    pub(crate) fn api(&self) -> Result<Api> {
        Api::open(self)
    }

    /// Servers of the cluster.
    pub(crate) fn servers(&self) -> Vec<&Machine> {
        let members = self.shape.members();
        let servers = members.iter().take(self.shape.servers);
        servers.map(|name| self.machine(name)).collect()
    }

    /// Agents of the cluster.
    pub(crate) fn agents(&self) -> Vec<&Machine> {
        let members = self.shape.members();
        let agents = members.iter().skip(self.shape.servers);
        agents.map(|name| self.machine(name)).collect()
    }

    /// All members of the cluster.
    pub(crate) fn members(&self) -> Vec<&Machine> {
        let members = self.shape.members();
        members.iter().map(|name| self.machine(name)).collect()
    }

    /// Pushes what is in the work tree and starts trueup; returns when the commit is
    /// converged. The commit.
    pub(crate) fn converge(&self) -> Result<String> {
        let commit = self.repo.push("the first state")?;
        self.host().start()?;
        self.host().wait_success(&commit, ROLL_OUT)?;
        Ok(commit)
    }

    /// The release server gets this release too.
    pub(crate) fn publish(&self, version: &str) -> Result<()> {
        stamp(&self.bed.scratch()?.join("releases"), version)
    }

    /// Keeps all disks as they are now; the machines go off and on again.
    pub(crate) fn keep(&self, name: &str) -> Result<()> {
        for machine in self.bed.machines() {
            machine.power_off()?;
            machine.snapshot(name)?;
        }
        self.bed.power_on_all()
    }

    /// Puts all disks back. The machines are not asked.
    pub(crate) fn put_back(&self, name: &str) -> Result<()> {
        for machine in self.bed.machines() {
            machine.power_cut()?;
            machine.restore(name)?;
        }
        self.bed.power_on_all()
    }

    /// What is worth reading after a failure.
    fn diagnosis(&self) -> String {
        let host = self.host();
        let mut text = String::from("the story failed; trueup's side of it:\n");
        for script in [
            "journalctl -u trueup -o short-precise --no-pager | tail -60",
            "timeout 100 trueup status",
            "git --git-dir=/var/lib/trueup/host/mirror.git log --notes=trueup --format='%h %s%n%N' -5 refs/trueup/fetched/main",
        ] {
            let said = host.machine().exec(script);
            let said = said.map_or_else(|error| error.to_string(), |end| end.stdout + &end.stderr);
            text.push_str(&format!("--- {script}\n{said}\n"));
        }
        text
    }
}

/// A folder of releases behind a server that the machines reach.
fn releases(bed: &Bed, scratch: &Path) -> Result<ReleaseServer> {
    let dir = scratch.join("releases");
    stamp(&dir, VERSION)?;
    ReleaseServer::start_on(bed.host_ip(), &dir)
}

/// Puts the double there under a version.
fn stamp(dir: &Path, version: &str) -> Result<()> {
    let release = dir.join(version);
    fs::create_dir_all(&release)?;
    let mut command = Command::new(beside_trueup("k3s-double")?);
    run(command.args(["stamp", version]).arg(release.join("k3s"))).map(drop)
}

/// A program of this workspace that `tests/run` builds beside trueup.
fn beside_trueup(name: &str) -> Result<PathBuf> {
    let path = Path::new(env!("CARGO_BIN_EXE_trueup")).with_file_name(name);
    ensure!(
        path.exists(),
        "{} is not built; run cargo build --workspace",
        path.display()
    );
    Ok(path)
}

/// Runs a command that must succeed; its output.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    ensure!(
        output.status.success(),
        "{:?}: {}{}",
        command,
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Looks until `look` yields a value; errors of a look are passed over, and the last
/// one is told when the time is over.
pub(crate) fn eventually<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let mut last = None;
    let mut next = std::time::Instant::now();
    wait_for(what, limit, || {
        // A look is a process or two: not every 20 ms.
        if std::time::Instant::now() < next {
            return None;
        }
        next = std::time::Instant::now() + Duration::from_millis(200);
        match look() {
            Ok(found) => found,
            Err(error) => {
                last = Some(format!("{error:#}"));
                None
            }
        }
    })
    .with_context(|| last.unwrap_or_else(|| "it was not so".to_owned()))
}
