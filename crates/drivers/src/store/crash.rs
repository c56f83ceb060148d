//! kill -9 in the middle of writes: what was acknowledged is there afterwards, and
//! the state directory is free.
//!
//! The victim is this test binary itself, started again to run one test.

use std::collections::BTreeSet;
use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use camino::{Utf8Path, Utf8PathBuf};
use trueup_model::port::Store;
use trueup_model::step::Outcome;
use trueup_model::verdict::VerdictState;

use super::conformance::{commit, entry, verdict};
use super::{SqliteStore, StateDir};

const VICTIM: &str = "TRUEUP_TEST_CRASH_STATE_DIR";
const VICTIM_TEST: &str = "store::crash::victim";

/// Says on stdout what the store has acknowledged; ends only by being killed.
fn write_for_ever(store: &SqliteStore) -> io::Result<()> {
    let mut out = io::stdout();
    let mut say = move |line: String| out.write_all(format!("\n@ {line}\n").as_bytes());
    loop {
        let number = store.next_number().unwrap();
        say(format!("number {number}"))?;
        store.put(&format!("key {number:08}"), "value").unwrap();
        say(format!("put key {number:08}"))?;
        let subject = format!("subject {number}");
        let row = store.step_started(&entry(&subject), number).unwrap();
        say(format!("started {row}"))?;
        let word = verdict("t/apply", VerdictState::Failure, &subject);
        store.decide(&word, number).unwrap();
        say(format!("decided {subject}"))?;
        store.step_ended(row, &Outcome::Done, number).unwrap();
        say(format!("ended {row}"))?;
        if let Some(next) = store.next_unsent("notes", number).unwrap() {
            store.mark_sent("notes", next.seq, number).unwrap();
            say(format!("sent {}", next.seq))?;
        }
    }
}

#[test]
fn victim() {
    // Run by itself there is nothing to do: the other tests start it with a path.
    if let Ok(path) = env::var(VICTIM) {
        let state = StateDir::open(Utf8Path::new(&path)).unwrap();
        let store = state.store().unwrap();
        // A broken pipe means that the one who was to kill us is gone.
        drop(write_for_ever(&store));
    }
}

fn start(path: &Utf8Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", VICTIM_TEST, "--nocapture"])
        .env(VICTIM, path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Kills the victim after so many acknowledgements; all that it said.
fn kill_after(path: &Utf8Path, count: usize) -> Vec<String> {
    let mut child = start(path);
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap)
        .filter_map(|line| line.strip_prefix("@ ").map(str::to_owned));
    let mut said: Vec<String> = lines.by_ref().take(count).collect();
    assert_eq!(said.len(), count, "the victim ended by itself");
    child.kill().unwrap();
    // What it said before it died counts too.
    said.extend(lines);
    child.wait().unwrap();
    said
}

fn check(store: &SqliteStore, said: &[String]) {
    let history = store.history(u32::MAX).unwrap();
    let rows: BTreeSet<i64> = history.iter().map(|record| record.row).collect();
    let ended: BTreeSet<i64> = history
        .iter()
        .filter(|record| record.end.is_some())
        .map(|record| record.row)
        .collect();
    let newest = store.newest(&commit('a'), "t/apply").unwrap();
    let next = store.next_number().unwrap();
    for line in said {
        let (what, rest) = line.split_once(' ').unwrap();
        let number = || rest.parse::<i64>().unwrap();
        let there = match what {
            "number" => i64::try_from(next).unwrap() > number(),
            "put" => store.get(rest).unwrap().as_deref() == Some("value"),
            "started" => rows.contains(&number()),
            "ended" => ended.contains(&number()),
            "sent" => newest.as_ref().is_some_and(|last| last.seq >= number()),
            "decided" => newest.is_some(),
            other => panic!("{other}"),
        };
        assert!(there, "acknowledged and lost: {line}");
    }
    let last = said
        .iter()
        .rev()
        .find_map(|line| line.strip_prefix("decided "));
    if let (Some(last), Some(newest)) = (last, newest) {
        // One more may have been decided without being acknowledged.
        let (last, found) = (number_of(last), number_of(&newest.verdict.description));
        assert!(found == last || found == last + 1, "{found} after {last}");
    }
}

fn number_of(subject: &str) -> u64 {
    subject.strip_prefix("subject ").unwrap().parse().unwrap()
}

#[test]
fn nothing_acknowledged_is_lost() {
    let keep = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(keep.path().join("state")).unwrap();
    let mut said = Vec::new();
    for count in [1, 2, 3, 5, 8, 13, 21, 144, 377, 1000] {
        said.extend(kill_after(&path, count));
        let state = StateDir::open(&path).unwrap();
        let store = state.store().unwrap();
        check(&store, &said);
        let open = store.unfinished().unwrap().len();
        assert!(open <= 1, "{open} unfinished steps of one writer");
        assert_eq!(store.abandon_unfinished("killed", 1).unwrap(), open);
    }
}
