use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn temporary() -> (tempfile::TempDir, Utf8PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(dir.path().join("state")).unwrap();
    (dir, path)
}

fn mode(path: &Utf8Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn everything_in_it_is_private() {
    let (_keep, path) = temporary();
    let state = StateDir::open(&path.join("deep/er")).unwrap();
    let store = state.store().unwrap();
    trueup_model::port::Store::put(&store, "a", "b").unwrap();
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(state.path()), 0o700);
    for file in ["lock", "trueup.db", "trueup.db-wal", "trueup.db-shm"] {
        assert_eq!(mode(&state.path().join(file)), 0o600, "{file}");
    }
}

#[test]
fn the_second_one_says_who_holds_it() {
    let (_keep, path) = temporary();
    let first = StateDir::open(&path).unwrap();
    let error = StateDir::open(&path).unwrap_err();
    let StateDirError::Held { by: Some(by), .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(by.pid, std::process::id());
    assert!(!by.host.is_empty());
    assert!(
        error.to_string().contains(&format!("process {}", by.pid)),
        "{error}"
    );
    let view = StateDir::peek(&path).unwrap();
    assert_eq!(view.holder().as_ref(), Some(by));

    drop(first);
    assert_eq!(view.holder(), None);
    drop(StateDir::open(&path).unwrap());
}

#[test]
fn a_directory_that_was_replaced_is_noticed() {
    let (_keep, path) = temporary();
    let state = StateDir::open(&path).unwrap();
    state.check().unwrap();
    fs::remove_dir_all(&path).unwrap();
    let error = state.check().unwrap_err();
    assert!(matches!(error, StateDirError::Lost { .. }), "{error}");
    let other = StateDir::open(&path).unwrap();
    let error = state.check().unwrap_err();
    assert!(matches!(error, StateDirError::Lost { .. }), "{error}");
    drop(state);
    other.check().unwrap();
}

#[test]
fn a_name_left_by_a_dead_process_holds_nothing() {
    let (_keep, path) = temporary();
    drop(StateDir::open(&path).unwrap());
    // Beyond the largest process id of Linux (2^22).
    let text = format!("4194305\n{}\n2026-11-20T10:00:00Z\n", host_name());
    fs::write(path.join("lock"), text).unwrap();
    assert_eq!(StateDir::peek(&path).unwrap().holder(), None);
    drop(StateDir::open(&path).unwrap());
}

#[test]
fn a_child_does_not_hold_the_lock() {
    let (_keep, path) = temporary();
    let state = StateDir::open(&path).unwrap();
    let mut child = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .unwrap();
    drop(state);
    let again = StateDir::open(&path);
    child.kill().unwrap();
    child.wait().unwrap();
    again.unwrap();
}

#[test]
fn what_others_can_write_is_refused() {
    let (_keep, path) = temporary();
    drop(StateDir::open(&path).unwrap());
    for open in [0o770, 0o707, 0o1777] {
        fs::set_permissions(&path, Permissions::from_mode(open)).unwrap();
        let error = StateDir::open(&path).unwrap_err();
        assert!(matches!(error, StateDirError::Open { mode, .. } if mode == open));
        assert!(error.to_string().contains("chmod 0700"), "{error}");
        assert!(StateDir::peek(&path).is_err());
    }
}

#[test]
fn a_file_in_its_place_is_named() {
    let (_keep, path) = temporary();
    fs::write(&path, "x").unwrap();
    let error = StateDir::open(&path).unwrap_err();
    assert!(
        matches!(error, StateDirError::NotADirectory { .. }),
        "{error}"
    );
    let error = StateDir::open(&path.join("below")).unwrap_err();
    assert!(
        matches!(error, StateDirError::NotADirectory { .. }),
        "{error}"
    );
}

#[test]
fn a_link_as_lock_file_is_not_followed() {
    let (_keep, path) = temporary();
    drop(StateDir::open(&path).unwrap());
    let victim = path.join("victim");
    fs::write(&victim, "precious").unwrap();
    fs::remove_file(path.join("lock")).unwrap();
    std::os::unix::fs::symlink(&victim, path.join("lock")).unwrap();
    assert!(StateDir::open(&path).is_err());
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}

#[test]
fn peeking_makes_nothing() {
    let (_keep, path) = temporary();
    let error = StateDir::peek(&path).unwrap_err();
    assert!(matches!(error, StateDirError::Missing { .. }), "{error}");
    assert!(!path.exists());

    drop(StateDir::open(&path).unwrap());
    let view = StateDir::peek(&path).unwrap();
    let error = view.store().unwrap_err();
    assert!(matches!(error, StoreError::Missing { .. }), "{error}");
}

#[test]
fn system_errors_are_told_apart() {
    let path = Utf8Path::new("/state");
    let of = |errno: rustix::io::Errno| StateDirError::io("make", path, errno.into());
    use rustix::io::Errno;
    assert!(matches!(of(Errno::NOSPC), StateDirError::Full { .. }));
    assert!(matches!(of(Errno::DQUOT), StateDirError::Full { .. }));
    assert!(matches!(of(Errno::ROFS), StateDirError::ReadOnly { .. }));
    assert!(matches!(of(Errno::ACCESS), StateDirError::ReadOnly { .. }));
    assert!(matches!(of(Errno::IO), StateDirError::Io { .. }));
}
