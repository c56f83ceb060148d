//! The store: what it keeps, in what order, and what it says when it cannot.

use std::os::unix::fs::PermissionsExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use tempfile::TempDir;
use trueup_model::id::{CommitId, Digest};
use trueup_model::port::StoreError;
use trueup_model::port::store::{
    BASELINE_BYTES_MAX, Grant, JournalEntry, Pause, Recorded, Settled, Store as _,
};
use trueup_model::verdict::{Verdict, VerdictState};

use super::SqliteStore;

fn dir() -> (TempDir, Utf8PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = Utf8Path::from_path(dir.path()).unwrap().join("state");
    (dir, path)
}

fn commit(digit: char) -> CommitId {
    digit.to_string().repeat(40).parse().unwrap()
}

fn verdict(commit_digit: char, context: &str, state: VerdictState, text: &str) -> Verdict {
    Verdict::new(commit(commit_digit), context, state, text)
}

#[test]
fn all_is_kept_over_a_restart() {
    let (_keep, path) = dir();
    let entry = JournalEntry {
        step: "abc".into(),
        unit: "machine/lab".into(),
        verb: "write".into(),
        target: "lab".into(),
        subject: "/etc/motd".into(),
        commit: "c".repeat(40),
        job: Some("abc-1-1".into()),
    };
    {
        let store = SqliteStore::open(&path).unwrap();
        assert_eq!(store.next_number().unwrap(), 1);
        let first = store.step_started(&entry).unwrap();
        store.step_ended(first, "done", "").unwrap();
        store.step_started(&entry).unwrap();
        store.put_epoch("machine/lab", 7).unwrap();
        store.put_epoch("machine/lab", 3).unwrap();
        store.put_value("tip", "x").unwrap();
        let settled = Settled {
            commit: commit('a'),
            desired: Digest::of(b"d"),
            at_s: 5,
        };
        store.put_settled("machine/lab", &settled).unwrap();
    }
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(store.next_number().unwrap(), 2);
    assert_eq!(
        store.epoch("machine/lab").unwrap(),
        Some(7),
        "an epoch never falls"
    );
    assert_eq!(store.epoch("machine/other").unwrap(), None);
    assert_eq!(store.value("tip").unwrap().as_deref(), Some("x"));
    assert_eq!(
        store.settled("machine/lab").unwrap().unwrap().commit,
        commit('a')
    );
    let open = store.unfinished().unwrap();
    assert_eq!((open.len(), open[0].row), (1, 2));
    assert_eq!(open[0].entry, entry);
    let history = store.history(Some("machine/lab"), 10).unwrap();
    assert_eq!(history.len(), 2);
    assert_eq!(history[1].end.as_ref().unwrap().outcome, "done");
    assert!(store.history(Some("cluster/x"), 10).unwrap().is_empty());
}

#[test]
fn verdicts_go_out_in_order_and_final_ones_always() {
    use VerdictState::{Failure, Pending, Success};
    let (_keep, path) = dir();
    let store = SqliteStore::open(&path).unwrap();
    let owed = |store: &SqliteStore| -> Vec<(i64, String)> {
        let owed = store.owed(10).unwrap();
        owed.into_iter()
            .map(|owed| (owed.seq, owed.verdict.description))
            .collect()
    };
    for (text, state) in [
        ("one", Pending),
        ("two", Pending),
        ("broken", Failure),
        ("three", Pending),
        ("good", Success),
    ] {
        assert!(store.decide(&verdict('a', "apply", state, text)).unwrap());
    }
    assert!(
        store
            .decide(&verdict('a', "plan", Pending, "other"))
            .unwrap()
    );
    assert!(
        !store
            .decide(&verdict('a', "apply", Success, "good"))
            .unwrap(),
        "said already"
    );
    // `one`, `two` and `three` were overtaken; of each context the oldest is first.
    assert_eq!(owed(&store), [(3, "broken".into()), (6, "other".into())]);
    store.sending(3).unwrap();
    assert_eq!(store.owed(10).unwrap()[0].tries, 1);
    store.sent(3).unwrap();
    assert_eq!(owed(&store), [(5, "good".into()), (6, "other".into())]);
    store.dropped(5, "refused").unwrap();
    assert_eq!(owed(&store), [(6, "other".into())]);
    assert_eq!(
        store
            .decided(&commit('a'), "apply")
            .unwrap()
            .unwrap()
            .description,
        "good"
    );
    assert_eq!(
        store.undecided().unwrap(),
        [verdict('a', "plan", Pending, "other")]
    );
    assert_eq!(store.decided(&commit('b'), "apply").unwrap(), None);
}

#[test]
fn what_people_said_ends_in_its_time() {
    let (_keep, path) = dir();
    let store = SqliteStore::open(&path).unwrap();
    let grant = Grant {
        id: "s1".into(),
        unit: "cluster/edge".into(),
        json: "{}".into(),
        author: "root".into(),
        reason: "seen".into(),
        granted_s: 100,
        expires_s: 200,
    };
    store.put_grant(&grant).unwrap();
    assert_eq!(store.grants(199).unwrap(), [grant.clone()]);
    assert!(store.grants(200).unwrap().is_empty());
    assert!(store.remove_grant("s1").unwrap() && !store.remove_grant("s1").unwrap());
    let pause = Pause {
        target: "cluster/edge".into(),
        reason: "move".into(),
        author: "root".into(),
        since_s: 1,
        until_s: 10,
    };
    store.put_pause(&pause).unwrap();
    assert_eq!(store.pauses(9).unwrap(), [pause]);
    assert!(store.pauses(10).unwrap().is_empty());
    assert!(store.remove_pause("cluster/edge").unwrap());
}

#[test]
fn baselines_are_kept_together_and_bounded() {
    let (_keep, path) = dir();
    let store = SqliteStore::open(&path).unwrap();
    let recorded = |json: &str| Recorded {
        rendered: Digest::of(b"r"),
        baseline: json.into(),
        rebuilt: false,
    };
    let row = |object: &str, json: &str| ("edge".to_owned(), object.to_owned(), recorded(json));
    store
        .put_baselines(&[row("a", "{}"), row("b", "{}")])
        .unwrap();
    store.put_baselines(&[row("a", "[]")]).unwrap();
    store.remove_baseline("edge", "b").unwrap();
    let all = store.baselines("edge").unwrap();
    assert_eq!(
        all.into_iter().collect::<Vec<_>>(),
        [("a".to_owned(), recorded("[]"))]
    );
    assert!(store.baselines("other").unwrap().is_empty());
    let large = "x".repeat(BASELINE_BYTES_MAX + 1);
    let error = store
        .put_baselines(&[row("c", "{}"), row("d", &large)])
        .unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
    assert_eq!(store.baselines("edge").unwrap().len(), 1, "all or none");
}

#[test]
fn nobody_else_can_read_it() {
    let (_keep, path) = dir();
    let store = SqliteStore::open(&path).unwrap();
    store.put_value("a", "b").unwrap();
    let mode = |path: &Utf8Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for file in ["trueup.db", "trueup.db-wal", "trueup.db-shm"] {
        assert_eq!(mode(&path.join(file)), 0o600, "{file}");
    }
    drop(store);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
    let error = SqliteStore::open(&path).unwrap_err();
    assert!(error.to_string().contains("chmod 700"), "{error}");
}

#[test]
fn two_processes_may_open_a_new_store_at_once() {
    let (_keep, path) = dir();
    let numbers: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let store = SqliteStore::open(&path).unwrap();
                    (0..5)
                        .map(|_| store.next_number().unwrap())
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    let mut sorted = numbers.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (1..=40).collect::<Vec<_>>());
}

#[test]
fn what_cannot_be_used_says_why() {
    let (_keep, path) = dir();
    let file = path.join("trueup.db");
    let store = SqliteStore::open(&path).unwrap();
    store.pragma("user_version = 99");
    drop(store);
    let error = SqliteStore::open(&path).unwrap_err();
    assert!(
        matches!(error, StoreError::Newer { found: 99, .. }),
        "{error}"
    );

    std::fs::write(&file, "this was a database once. ".repeat(500)).unwrap();
    let error = SqliteStore::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");

    std::fs::remove_file(&file).unwrap();
    let store = SqliteStore::open(&path).unwrap();
    store.pragma("max_page_count = 1");
    let error = store.put_value("a", &"x".repeat(1_000_000)).unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert_eq!(
        store.next_number().unwrap(),
        1,
        "it goes on where there is room"
    );
    store.pragma("query_only = 1");
    let error = store.next_number().unwrap_err();
    assert!(matches!(error, StoreError::ReadOnly { .. }), "{error}");

    let blocked = path.join("a-file");
    std::fs::write(&blocked, "").unwrap();
    let error = SqliteStore::open(&blocked.join("state")).unwrap_err();
    assert!(matches!(error, StoreError::Open { .. }), "{error}");
}

#[test]
fn a_torn_file_is_told() {
    let (_keep, path) = dir();
    let store = SqliteStore::open(&path).unwrap();
    for number in 0..200 {
        store
            .put_value(&number.to_string(), &"x".repeat(2000))
            .unwrap();
    }
    store.pragma("wal_checkpoint(TRUNCATE)");
    drop(store);
    let file = path.join("trueup.db");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8192].fill(0x5a);
    std::fs::write(&file, bytes).unwrap();
    let error = SqliteStore::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains("move it away"), "{error}");
}
