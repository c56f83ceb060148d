//! Control groups of a run.
//!
//! Each machine gets a group of its own: without one, every systemd-nspawn that is
//! started with `--keep-unit` from the same place shares `/payload`, and the
//! machines' systemds then see each other's services in their own units' groups
//! (systemd 252, seen). A group is also the surest way to end everything in it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};

use crate::wait::wait_until;

/// One group in each hierarchy that systemd uses: cgroup2, and `name=systemd` on a hybrid host.
#[derive(Debug, Clone)]
pub struct Group {
    dirs: Vec<PathBuf>,
}

impl Group {
    /// The group `trueup-bed-<run>[/<part>]`, not yet made.
    pub fn of(run: &str, part: Option<&str>) -> Self {
        let dirs = hierarchies()
            .into_iter()
            .map(|root| {
                let group = root.join(format!("trueup-bed-{run}"));
                part.map_or(group.clone(), |part| group.join(part))
            })
            .collect();
        Self { dirs }
    }

    pub fn create(&self) -> Result<()> {
        for dir in &self.dirs {
            fs::create_dir_all(dir)
                .with_context(|| format!("cannot make the group {}", dir.display()))?;
        }
        Ok(())
    }

    /// The words that start a program inside this group: it enters and then becomes the program.
    pub fn enter_words(&self) -> Vec<String> {
        let mut words = vec!["sh".to_owned(), "-c".to_owned()];
        let mut script = String::from("set -e; ");
        for dir in &self.dirs {
            script.push_str(&format!("echo $$ >'{}/cgroup.procs'; ", dir.display()));
        }
        script.push_str("exec \"$@\"");
        words.extend([script, "sh".to_owned()]);
        words
    }

    /// Kills everything in the group and removes it.
    pub fn destroy(&self, limit: Duration) -> Result<()> {
        for dir in self
            .dirs
            .iter()
            .filter(|dir| dir.join("cgroup.kill").exists())
        {
            fs::write(dir.join("cgroup.kill"), "1")
                .with_context(|| format!("cannot kill {}", dir.display()))?;
        }
        for dir in &self.dirs {
            let what = format!("the group {} to empty", dir.display());
            wait_until(&what, limit, || remove_groups(dir))?;
        }
        Ok(())
    }
}

/// Removes a group with those below it; false while one of them still has a process.
fn remove_groups(dir: &Path) -> bool {
    let Ok(entries) = fs::read_dir(dir) else {
        return !dir.exists();
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path());
        }
    }
    fs::remove_dir(dir).is_ok() || !dir.exists()
}

/// Mount points of cgroup2 and of the hierarchy named `systemd`.
fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            let (point, kind, options) = (fields.get(1)?, fields.get(2)?, fields.get(3)?);
            let named_systemd =
                *kind == "cgroup" && options.split(',').any(|option| option == "name=systemd");
            (*kind == "cgroup2" || named_systemd).then(|| PathBuf::from(point))
        })
        .collect()
}
