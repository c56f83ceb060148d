use std::fs;
use std::os::unix::fs::MetadataExt;

use super::super::conformance::{self, commit, entry, verdict};
use super::*;
use trueup_model::verdict::VerdictState;

fn temporary() -> (tempfile::TempDir, Utf8PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(dir.path().join("trueup.db")).unwrap();
    (dir, path)
}

#[test]
fn conforms() {
    for (name, case) in conformance::CASES {
        let (_keep, path) = temporary();
        eprintln!("{name}");
        case(&SqliteStore::open(&path).unwrap());
    }
}

#[test]
fn it_is_all_there_after_reopening() {
    let (_keep, path) = temporary();
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(store.next_number().unwrap(), 1);
    store.step_started(&entry("a"), 10).unwrap();
    store
        .decide(&verdict("a", VerdictState::Success, "1"), 1)
        .unwrap();
    assert_eq!(store.next_unsent("notes", 1).unwrap().unwrap().attempts, 0);
    drop(store);

    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(store.next_number().unwrap(), 2);
    assert_eq!(store.unfinished().unwrap().len(), 1);
    let next = store.next_unsent("notes", 1).unwrap().unwrap();
    assert_eq!(next.attempts, 1, "it may have been delivered already");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn a_reader_reads_beside_the_writer_and_writes_nothing() {
    let (_keep, path) = temporary();
    let error = SqliteStore::open_read_only(&path).unwrap_err();
    assert!(matches!(error, StoreError::Missing { .. }), "{error}");
    let store = SqliteStore::open(&path).unwrap();
    let reader = SqliteStore::open_read_only(&path).unwrap();
    store.put("a", "1").unwrap();
    assert_eq!(reader.get("a").unwrap().as_deref(), Some("1"));
    let error = reader.put("a", "2").unwrap_err();
    assert!(matches!(error, StoreError::ReadOnly { .. }), "{error}");

    drop((store, reader));
    let after = SqliteStore::open_read_only(&path).unwrap();
    assert_eq!(after.get("a").unwrap().as_deref(), Some("1"));
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let (_keep, path) = temporary();
    drop(SqliteStore::open(&path).unwrap());
    let db = Connection::open(&path).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    drop(db);
    let before = fs::read(&path).unwrap();
    for opened in [SqliteStore::open(&path), SqliteStore::open_read_only(&path)] {
        let error = opened.unwrap_err();
        assert!(
            matches!(error, StoreError::Newer { found: 99, .. }),
            "{error}"
        );
    }
    assert_eq!(fs::read(&path).unwrap(), before);
}

/// A file of the first format: what was queued there is queued for the notes.
#[test]
fn an_earlier_format_is_brought_up() {
    let (_keep, path) = temporary();
    let db = Connection::open(&path).unwrap();
    db.execute_batch(schema::FORMAT_1).unwrap();
    db.execute_batch(
        "INSERT INTO verdict (commit_id, context, state, description, decided_s, delivery, attempts)
         VALUES (lower(hex(zeroblob(20))), 'c', 'success', 'told', 1, 'sent', 1),
                (lower(hex(zeroblob(20))), 'c', 'failure', 'not yet', 2, 'queued', 2);
         PRAGMA user_version = 1;",
    )
    .unwrap();
    drop(db);
    let store = SqliteStore::open(&path).unwrap();
    let next = store.next_unsent("notes", 9).unwrap().unwrap();
    assert_eq!(
        (next.verdict.description.as_str(), next.attempts),
        ("not yet", 2)
    );
    store.mark_sent("notes", next.seq, 9).unwrap();
    assert_eq!(store.next_unsent("notes", 9).unwrap(), None);
    drop(SqliteStore::open(&path).unwrap());
}

#[test]
fn damage_is_found_at_the_start() {
    for (name, content) in [
        (
            "not a database",
            b"this is a text file, not a database\n".repeat(200),
        ),
        ("cut short", Vec::new()),
    ] {
        let (_keep, path) = temporary();
        let store = SqliteStore::open(&path).unwrap();
        for n in 0..500 {
            store.put(&format!("key {n}"), &"x".repeat(100)).unwrap();
        }
        drop(store);
        let mut bytes = fs::read(&path).unwrap();
        if content.is_empty() {
            // The second page onwards is noise: the header is still right.
            bytes[4096..].fill(0xa5);
        } else {
            bytes = content;
        }
        fs::write(&path, bytes).unwrap();
        let error = SqliteStore::open(&path).unwrap_err();
        assert!(
            matches!(error, StoreError::Corrupt { .. }),
            "{name}: {error}"
        );
        assert!(error.to_string().contains("move it away"), "{error}");
    }
}

#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged() {
    let (_keep, path) = temporary();
    let store = SqliteStore::open(&path).unwrap();
    store.limit_pages(60);
    let mut written = 0_u32;
    let error = loop {
        let key = format!("{written:05}");
        match store.put(&key, &"x".repeat(1000)) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 10_000, "it never fills");
    };
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert!(error.to_string().contains("free space"), "{error}");
    assert_eq!(store.list("").unwrap().len(), written as usize);
    drop(SqliteStore::open(&path).unwrap());
    store.limit_pages(1_000_000);
    store.put("again", "1").unwrap();
}

#[test]
fn a_locked_database_says_so() {
    let (_keep, path) = temporary();
    let store = SqliteStore::open(&path).unwrap();
    store.lock().busy_timeout(Duration::ZERO).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.put("a", "1").unwrap_err();
    assert!(matches!(error, StoreError::Busy { .. }), "{error}");
    assert!(error.is_transient());
    other.execute_batch("ROLLBACK").unwrap();
    store.put("a", "1").unwrap();
}

#[test]
fn odd_content_is_called_damage() {
    let (_keep, path) = temporary();
    let store = SqliteStore::open(&path).unwrap();
    store
        .decide(&verdict("a", VerdictState::Success, "1"), 1)
        .unwrap();
    store
        .lock()
        .execute("UPDATE verdict SET state = 'maybe'", [])
        .unwrap();
    let error = store.newest(&commit('a'), "a").unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}

#[test]
fn many_threads_get_different_numbers() {
    let (_keep, path) = temporary();
    let store = SqliteStore::open(&path).unwrap();
    let mut numbers: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..20).map(|_| store.next_number().unwrap()).collect()))
            .collect();
        threads
            .into_iter()
            .flat_map(|thread: std::thread::ScopedJoinHandle<'_, Vec<u64>>| thread.join().unwrap())
            .collect()
    });
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=80).collect::<Vec<_>>());
}
