//! A bed whose owner was killed leaves nothing once the next one starts.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use trueup_bed::{process::ProcessId, sweep};

/// Everything on the host that carries a run's name.
fn traces(run: &str) -> Vec<String> {
    let mut found = Vec::new();
    for dir in [
        "/run/trueup-bed",
        "/var/tmp/trueup-bed",
        "/sys/class/net",
        "/run/netns",
        "/sys/fs/cgroup",
        "/sys/fs/cgroup/unified",
        "/sys/fs/cgroup/systemd",
    ] {
        let Ok(entries) = fs::read_dir(dir) else {
            continue;
        };
        let names = entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned());
        found.extend(
            names
                .filter(|name| name.contains(run))
                .map(|name| format!("{dir}/{name}")),
        );
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    found.extend(
        mounts
            .lines()
            .filter(|line| line.contains(&format!("/{run}/")))
            .map(str::to_owned),
    );
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&words).contains(&format!("/{run}/")) {
            found.push(format!("process {}", entry.file_name().to_string_lossy()));
        }
    }
    found
}

#[test]
fn nothing_is_left_of_an_owner_that_was_killed() {
    let mut owner = Command::new(env!("CARGO_BIN_EXE_bed"))
        .args(["up", "2", "--control-plane"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let said: Vec<String> = lines
        .take_while(|line| !line.starts_with("ready"))
        .collect();
    let runs: Vec<&str> = said
        .iter()
        .filter_map(|line| line.strip_prefix("run "))
        .collect();
    assert_eq!(runs.len(), 2, "{said:?}");
    let processes: Vec<ProcessId> = runs
        .iter()
        .flat_map(|run| {
            let list = fs::read_to_string(Path::new("/run/trueup-bed").join(run).join("processes"))
                .unwrap();
            list.lines()
                .map(|line| line.parse().unwrap())
                .collect::<Vec<ProcessId>>()
        })
        .collect();
    assert!(
        processes.len() >= 6 && processes.iter().all(ProcessId::is_alive),
        "{processes:?}"
    );

    owner.kill().unwrap();
    owner.wait().unwrap();
    assert!(runs.iter().all(|run| !traces(run).is_empty()));
    // Another test's start may have swept already, so what this call removed says nothing.
    sweep::sweep_dead().unwrap();
    for run in runs {
        assert_eq!(traces(run), [""; 0]);
    }
    assert!(processes.iter().all(|process| !process.is_alive()));
}
