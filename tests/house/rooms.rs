//! Rooms of a crate import downward only, by the tables below, which are those of
//! `ARCHITECTURE.md` in detail. Every path counts, not only `use` lines.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms of `crates/core`, each with those that it may name.
const CORE: &[(&str, &[&str])] = &[
    ("paths", &[]),
    ("config", &[]),
    ("drift", &[]),
    ("health", &[]),
    ("desired", &["config", "drift", "paths"]),
    ("k3s", &["desired", "paths"]),
    ("observed", &["desired", "health", "paths"]),
    ("round", &["desired"]),
    ("gate", &["round", "desired", "observed", "k3s"]),
    (
        "plan",
        &[
            "round", "gate", "desired", "observed", "k3s", "health", "paths",
        ],
    ),
    ("job", &["desired"]),
    ("engine", &["plan", "gate", "round", "desired", "observed"]),
];

/// Rooms of `crates/drivers`. No driver knows another; `git_process` is the one way
/// to run git, `node_script` what the shells carry, `tls` what all speak that speak HTTPS.
const DRIVERS: &[(&str, &[&str])] = &[
    ("age", &[]),
    ("tls", &[]),
    ("git_process", &[]),
    ("node_script", &[]),
    ("etcd", &["tls"]),
    ("kube", &["tls"]),
    ("k3s", &["tls"]),
    ("webhook", &[]),
    ("git", &["git_process"]),
    ("forge", &["git_process", "git", "tls"]),
    ("ssh", &["node_script"]),
    ("store", &[]),
];

/// Rooms of `crates/model`.
const MODEL: &[(&str, &[&str])] = &[
    ("id", &[]),
    ("origin", &[]),
    ("document", &["origin"]),
    ("tree", &["document"]),
    ("sops", &["document"]),
    ("kinds", &["id"]),
    ("facts", &["id", "kinds"]),
    ("job", &["id"]),
    ("step", &["facts", "id", "kinds", "origin"]),
    ("verdict", &["id"]),
    (
        "port",
        &[
            "facts", "id", "job", "kinds", "step", "tree", "verdict", "document",
        ],
    ),
];

/// Rooms of `crates/sim`.
const SIM: &[(&str, &[&str])] = &[
    ("release", &[]),
    ("machine", &["release"]),
    ("cluster", &[]),
    ("fleet", &["machine", "cluster"]),
    ("fault", &["fleet", "machine", "cluster"]),
    ("port", &["fleet", "machine", "cluster"]),
];

/// Files longer than this hold more than one concept.
const LINES_MAX: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, out);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            out.push(path);
        }
    }
}

fn sources(dir: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    files(&root().join(dir), &mut found);
    found.sort();
    found
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            (path, text)
        })
        .collect()
}

/// Rooms that a text names by `crate::ROOM`, comments left out.
fn named(text: &str) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    code.split("crate::")
        .skip(1)
        .map(|rest| {
            rest.chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                .collect()
        })
        .collect()
}

fn check(dir: &str, table: &[(&str, &[&str])]) {
    let table: BTreeMap<&str, BTreeSet<&str>> = table
        .iter()
        .map(|(room, may)| (*room, may.iter().copied().collect()))
        .collect();
    let mut wrong = Vec::new();
    for (path, text) in sources(dir) {
        let inside = path.strip_prefix(root().join(dir)).unwrap();
        let first = inside.iter().next().unwrap().to_str().unwrap();
        let room = first.trim_end_matches(".rs");
        if room == "lib"
            || inside.ends_with("tests.rs")
            || inside.iter().any(|part| part == "tests")
        {
            continue;
        }
        let Some(may) = table.get(room) else {
            wrong.push(format!("{room}: a room without a line in the table"));
            continue;
        };
        for other in named(&text) {
            let is_room = table.contains_key(other.as_str());
            if is_room && other != room && !may.contains(other.as_str()) {
                wrong.push(format!("{} names {other}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn rooms_of_core_import_downward() {
    check("crates/core/src", CORE);
}

#[test]
fn rooms_of_sim_import_downward() {
    check("crates/sim/src", SIM);
}

#[test]
fn rooms_of_model_import_downward() {
    check("crates/model/src", MODEL);
}

#[test]
fn drivers_do_not_know_each_other() {
    check("crates/drivers/src", DRIVERS);
}

/// The tables themselves have no circle.
#[test]
fn tables_go_downward() {
    for table in [CORE, DRIVERS, MODEL, SIM] {
        let mut left: Vec<_> = table.to_vec();
        let mut placed: BTreeSet<&str> = BTreeSet::new();
        while !left.is_empty() {
            let before = left.len();
            left.retain(|(room, may)| {
                let ready = may.iter().all(|other| placed.contains(other));
                if ready {
                    placed.insert(room);
                }
                !ready
            });
            assert!(left.len() < before, "a circle among {left:?}");
        }
    }
}

/// What a crate does not depend on, it cannot call.
#[test]
fn crates_depend_downward() {
    let absent = [
        (
            "crates/model/Cargo.toml",
            ["tokio", "trueup-core", "trueup-drivers", "reqwest"],
        ),
        (
            "crates/core/Cargo.toml",
            ["tokio", "trueup-drivers", "rusqlite", "russh"],
        ),
        (
            // Sharing the planner's rules would prove nothing.
            "crates/sim/Cargo.toml",
            ["tokio", "trueup-core", "trueup-drivers", "reqwest"],
        ),
        (
            "crates/drivers/Cargo.toml",
            ["trueup-core\".", "clap", "ratatui", "maud"],
        ),
    ];
    for (file, names) in absent {
        let text = fs::read_to_string(root().join(file)).unwrap();
        let dependencies = text.split("[dev-dependencies]").next().unwrap();
        for name in names {
            let line = dependencies.lines().find(|line| line.starts_with(name));
            assert_eq!(line, None, "{file}");
        }
    }
}

#[test]
fn decisions_read_no_clock_and_no_file() {
    let simulated = sources("crates/sim/src");
    for (path, text) in sources("crates/core/src").into_iter().chain(simulated) {
        for word in [
            "std::fs",
            "std::time",
            "std::net::Tcp",
            "std::env",
            "Timestamp::now",
            "rand::",
        ] {
            let used = text
                .lines()
                .any(|line| !line.trim_start().starts_with("//") && line.contains(word));
            let test = path.ends_with("tests.rs") || text.contains("#[cfg(test)]");
            assert!(!used || test, "{} uses {word}", path.display());
        }
    }
}

#[test]
fn files_hold_one_concept() {
    for dir in ["crates", "src"] {
        for (path, text) in sources(dir) {
            let lines = text.lines().count();
            assert!(lines <= LINES_MAX, "{} has {lines} lines", path.display());
        }
    }
}
