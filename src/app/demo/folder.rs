//! The demo's folder. Nothing is ever deleted in a folder that the demo did not make:
//! its mark says that it did, and only what it makes is taken away.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};

use camino::{Utf8Path, Utf8PathBuf};
use trueup_drivers::store::StateDir;

use super::{broken, example};
use crate::app::host::HostError;
use crate::app::office::failure_of;
use crate::cli::Failure;

const MARK: &str = ".trueup-demo";
const MARK_TEXT: &str = "made by `trueup demo`, which may make it anew\n";
/// What the demo makes in its folder, the mark last.
const MADE: [&str; 8] = [
    "repo",
    "state",
    "trueup.yaml",
    "demo-only.agekey",
    "fleet.json",
    "fleet.json.lock",
    "fleet.json.new",
    MARK,
];

/// The demo's folder.
#[derive(Debug)]
pub(super) struct Folder {
    dir: Utf8PathBuf,
}

impl Folder {
    /// Make it, or make it anew where it is the demo's own.
    pub(super) fn prepare(dir: &Utf8Path, tell: &(dyn Fn(&str) + Sync)) -> Result<Self, Failure> {
        let folder = Self {
            dir: dir.to_owned(),
        };
        let failure = |error: std::io::Error| broken(format!("{dir}: {error}"));
        if dir.join(MARK).is_file() {
            tell(&format!(
                "There is a demo in {dir} already; it is made anew."
            ));
            folder.clear()?;
        } else if dir.exists() && fs::read_dir(dir).map_err(failure)?.next().is_some() {
            return Err(Failure::new(
                "TU0917",
                format!("{dir} is not empty and was not made by a demo; it is left alone"),
            )
            .next("trueup demo --dir DIR, with a folder that does not exist yet"));
        }
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(dir).map_err(failure)?;
        fs::write(dir.join(MARK), MARK_TEXT).map_err(failure)?;
        folder.write("demo-only.agekey", example::KEY)?;
        folder.write("trueup.yaml", &folder.settings())?;
        Ok(folder)
    }

    /// Take away what the demo made; not while a loop works on it.
    fn clear(&self) -> Result<(), Failure> {
        if self.state().exists() {
            let held = StateDir::open(&self.state());
            drop(held.map_err(|error| failure_of(&HostError::State(error)))?);
        }
        for name in MADE {
            let path = self.dir.join(name);
            let gone = match fs::symlink_metadata(&path) {
                Ok(data) if data.is_dir() => fs::remove_dir_all(&path),
                Ok(_) => fs::remove_file(&path),
                Err(_) => Ok(()),
            };
            gone.map_err(|error| broken(format!("{path}: {error}")))?;
        }
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        let path = self.dir.join(name);
        let failure = |error: std::io::Error| broken(format!("{path}: {error}"));
        let mut file = fs::OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(failure)?;
        file.write_all(text.as_bytes()).map_err(failure)
    }

    /// The host configuration. Texts in quotes: a path may hold anything.
    fn settings(&self) -> String {
        let quoted = |path: Utf8PathBuf| serde_json::Value::from(path.as_str()).to_string();
        format!(
            "# The host configuration of a demo.
repo:
  url: {}
  branch: main
fleet: lab
holder: demo
stateDir: {}
age:
  identityFile: {}
# Stands in the place of all machines, clusters and releases: nothing real is reached.
simulated: {}
# What this host grants. The config repo must grant it too.
switches:
  reportDrift: true
  correctDrift: true
  rollOut: true
",
            quoted(self.repo()),
            quoted(self.state()),
            quoted(self.dir.join("demo-only.agekey")),
            quoted(self.fleet()),
        )
    }

    pub(super) fn config(&self) -> Utf8PathBuf {
        self.dir.join("trueup.yaml")
    }
    pub(super) fn repo(&self) -> Utf8PathBuf {
        self.dir.join("repo")
    }
    pub(super) fn state(&self) -> Utf8PathBuf {
        self.dir.join("state")
    }
    pub(super) fn fleet(&self) -> Utf8PathBuf {
        self.dir.join("fleet.json")
    }
}
