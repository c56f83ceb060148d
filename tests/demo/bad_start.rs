//! A demo that cannot begin says so, and touches nothing.

use std::fs;

use crate::left::{demo, trueup};

#[test]
fn a_folder_of_somebody_else_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("d/repo")).unwrap();
    fs::write(dir.path().join("d/repo/mine"), "mine").unwrap();
    let output = demo(dir.path(), &["--fast"]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(
        errors.contains("TU0917") && errors.contains("next:"),
        "{errors}"
    );
    let mine = fs::read_to_string(dir.path().join("d/repo/mine")).unwrap();
    assert_eq!(mine, "mine");
    assert_eq!(fs::read_dir(dir.path().join("d")).unwrap().count(), 1);
}

#[test]
fn without_git_or_home_it_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("d");
    let mut command = trueup();
    let no_git = command
        .arg("demo")
        .arg("--dir")
        .arg(&folder)
        .env("PATH", dir.path());
    let output = no_git.output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("install git"), "{errors}");
    assert!(!folder.exists());

    let mut command = trueup();
    let no_home = command
        .arg("demo")
        .env_remove("HOME")
        .env_remove("XDG_STATE_HOME");
    let output = no_home.output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{errors}");
    assert!(errors.contains("--dir DIR"), "{errors}");
}
