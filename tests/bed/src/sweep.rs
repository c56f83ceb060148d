//! Removing a run by what it recorded: at its end, or after its owner was killed.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{
    cgroup::Group,
    process::ProcessId,
    run::{DISKS_DIR, RUNS_DIR, disks_of, home_of, lock_runs},
    shell,
    wait::wait_until,
};

/// How long killed processes may take to be gone: SIGKILL waits for disk writes only.
const DEATH_LIMIT: Duration = Duration::from_secs(30);

/// Removes every run whose owner is gone and returns their names.
pub fn sweep_dead() -> Result<Vec<String>> {
    let _lock = lock_runs()?;
    let mut removed = Vec::new();
    for id in names_in(RUNS_DIR) {
        if !owner_is_alive(&id) {
            remove_run(&id).with_context(|| format!("cannot remove what run {id} left"))?;
            removed.push(id);
        }
    }
    // A disk without a run: the host was rebooted, and /run with the records is new.
    for id in names_in(DISKS_DIR)
        .into_iter()
        .filter(|id| !home_of(id).exists())
    {
        fs::remove_dir_all(disks_of(&id))?;
        removed.push(id);
    }
    Ok(removed)
}

/// Removes one run, whoever owns it. Doing it twice is the same as once.
pub(crate) fn remove_run(id: &str) -> Result<()> {
    let home = home_of(id);
    for line in lines(&home, "processes") {
        // A half-written last line names no process that was ever waited for.
        let Ok(process) = line.parse::<ProcessId>() else {
            continue;
        };
        process.kill()?;
    }
    Group::of(id, None).destroy(DEATH_LIMIT)?;
    for point in lines(&home, "mounts").into_iter().rev() {
        unmount(Path::new(&point))?;
    }
    for namespace in lines(&home, "namespaces") {
        if Path::new("/run/netns").join(&namespace).exists() {
            shell::run(&["ip", "netns", "delete", &namespace])?;
        }
    }
    for link in lines(&home, "links") {
        remove_link(&link)?;
    }
    for file in lines(&home, "sysctls").into_iter().rev() {
        restore_sysctl(&file)?;
    }
    remove_all(&disks_of(id))?;
    remove_all(&home)
}

/// Deletes a link; a veth goes by itself when its peer's namespace goes, so it may be gone at any instant.
pub(crate) fn remove_link(name: &str) -> Result<()> {
    let path = Path::new("/sys/class/net").join(name);
    if !path.exists() {
        return Ok(());
    }
    match shell::run(&["ip", "link", "delete", name]) {
        Err(error) if path.exists() => Err(error),
        _ => Ok(()),
    }
}

/// Unmounts a point, waiting for the last user of it to be gone.
pub(crate) fn unmount(point: &Path) -> Result<()> {
    let what = format!("{} to be unmounted", point.display());
    wait_until(&what, DEATH_LIMIT, || {
        !is_mounted(point) || shell::run(&["umount", &point.display().to_string()]).is_ok()
    })
}

pub(crate) fn is_mounted(point: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let wanted = point.display().to_string();
    mounts
        .lines()
        .any(|line| line.split(' ').nth(1) == Some(wanted.as_str()))
}

/// A recorded line is `path=value before the run`.
fn restore_sysctl(line: &str) -> Result<()> {
    let (path, value) = line.split_once('=').context("not a recorded setting")?;
    fs::write(path, value).with_context(|| format!("cannot put {path} back to {value}"))
}

fn owner_is_alive(id: &str) -> bool {
    let owner = fs::read_to_string(home_of(id).join("owner")).unwrap_or_default();
    owner
        .parse::<ProcessId>()
        .is_ok_and(|owner| owner.is_alive())
}

fn names_in(dir: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

fn lines(home: &Path, list: &str) -> Vec<String> {
    let text = fs::read_to_string(home.join(list)).unwrap_or_default();
    text.lines()
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Removes a tree of the bed's own, never through a mount that is still there.
fn remove_all(dir: &PathBuf) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let inside = format!("{}/", dir.display());
    let busy = mounts.lines().any(|line| {
        line.split(' ')
            .nth(1)
            .is_some_and(|point| point.starts_with(&inside))
    });
    anyhow::ensure!(!busy, "{} still has a mount below it", dir.display());
    match fs::remove_dir_all(dir) {
        Err(error) if dir.exists() => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}
