//! The command line through the built binary: its help, frozen, and its exit codes.
//! `UPDATE_GOLDEN=1` writes the help anew.

use std::path::Path;
use std::process::{Command, Output};

const COMMANDS: [&str; 21] = [
    "demo",
    "init",
    "node",
    "node enroll",
    "cluster",
    "cluster kubeconfig",
    "doctor",
    "config",
    "config set",
    "adopt",
    "validate",
    "plan",
    "apply",
    "run",
    "status",
    "approve",
    "claim",
    "pause",
    "resume",
    "schema",
    "completions",
];

fn trueup(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trueup"))
        .args(args)
        .env_remove("TRUEUP_CONFIG")
        .env("COLUMNS", "100")
        .output()
        .unwrap()
}

#[test]
fn the_help_is_frozen() {
    let mut text = String::from_utf8(trueup(&["--help"]).stdout).unwrap();
    for command in COMMANDS {
        let words: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let help = trueup(&words).stdout;
        text.push_str(&format!(
            "\n--- {command}\n{}",
            String::from_utf8(help).unwrap()
        ));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/house/help.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let frozen = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        text, frozen,
        "UPDATE_GOLDEN=1 writes tests/house/help.txt anew"
    );
}

#[test]
fn endings_follow_the_table() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let broken = dir.path().join("fleet.yaml");
    std::fs::write(
        &broken,
        "apiVersion: trueup.dev/v1alpha1\nkind: Fleet\nmetadata: {name: x}\nspec: {swiches: {}}\n",
    )
    .unwrap();
    let missing = dir.path().join("no.yaml");
    let missing = missing.to_str().unwrap();
    let table: [(&[&str], i32); 7] = [
        (&["--version"], 0),
        (&["validate", path], 3),
        (&["nonsense"], 64),
        (&["schema", "Nonsense"], 64),
        (&["schema", "Node"], 0),
        (&["--config", missing, "plan"], 1),
        (&["--config", missing, "approve", "--reason", "x"], 64),
    ];
    for (args, code) in table {
        let output = trueup(args);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn a_finding_names_file_line_and_column() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("fleet.yaml"),
        "apiVersion: trueup.dev/v1alpha1\nkind: Fleet\nmetadata: {name: x}\nspec: {swiches: {}}\n",
    )
    .unwrap();
    let output = trueup(&["validate", dir.path().to_str().unwrap(), "-o", "json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = report.to_string();
    for part in ["fleet.yaml", "swiches", "TU", "switches"] {
        assert!(text.contains(part), "{text}");
    }
}
