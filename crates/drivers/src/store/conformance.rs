//! What every store has to do, written against the port only: another store runs
//! the same table.

use trueup_model::id::{ClusterName, CommitId, Digest, FleetName, UnitId};
use trueup_model::port::store::{
    DeliveryState, Grant, JournalEntry, Pause, Recorded, Settled, TEXT_BYTES_MAX, WHY_CHARS_MAX,
};
use trueup_model::port::{Store, StoreError};
use trueup_model::step::Outcome;
use trueup_model::verdict::{Verdict, VerdictState};

/// Gets an empty store.
pub(super) type Case = fn(&dyn Store);

/// Every case, by name.
pub(super) const CASES: &[(&str, Case)] = &[
    ("numbers never repeat", numbers_never_repeat),
    ("values", values),
    ("prefixes are bytes", prefixes_are_bytes),
    ("epochs never fall", epochs_never_fall),
    ("settled", settled),
    ("baselines", baselines),
    ("baselines of a thousand objects", baselines_of_a_thousand),
    ("baselines all or none", baselines_all_or_none),
    ("journal", journal),
    ("journal keeps the first end", journal_keeps_the_first_end),
    ("equal words are decided once", equal_words_are_decided_once),
    ("order per context", order_per_context),
    ("pending is passed over", pending_is_passed_over),
    (
        "final states are never dropped",
        final_states_are_never_dropped,
    ),
    ("passed over on its way", passed_over_on_its_way),
    ("attempts are counted", attempts_are_counted),
    ("refused is not offered again", refused_is_not_offered_again),
    ("each destination for itself", each_destination_for_itself),
    ("why nothing arrives", why_nothing_arrives),
    ("a destination comes and goes", a_destination_comes_and_goes),
    ("newest and all of a commit", newest_and_all_of_a_commit),
    ("grants expire", grants_expire),
    ("pauses end", pauses_end),
    ("commits", commits),
];

pub(super) fn commit(digit: char) -> CommitId {
    digit.to_string().repeat(40).parse().unwrap()
}

fn unit() -> UnitId {
    "cluster/edge".parse().unwrap()
}

pub(super) fn entry(subject: &str) -> JournalEntry {
    JournalEntry {
        step: Digest::of(subject.as_bytes()),
        unit: unit(),
        verb: "write".to_owned(),
        target: "lab1".to_owned(),
        subject: subject.to_owned(),
        commit: commit('a'),
        job: Some("job-1".to_owned()),
    }
}

pub(super) fn verdict(context: &str, state: VerdictState, text: &str) -> Verdict {
    Verdict::new(commit('a'), context, state, text)
}

fn recorded(text: &str) -> Recorded {
    Recorded {
        rendered: Digest::of(text.as_bytes()),
        baseline: format!("{{\"data\":\"{text}\"}}"),
        rebuilt: false,
    }
}

fn numbers_never_repeat(store: &dyn Store) {
    let first: Vec<u64> = (0..3).map(|_| store.next_number().unwrap()).collect();
    assert_eq!(first, [1, 2, 3]);
}

fn values(store: &dyn Store) {
    assert_eq!(store.get("a").unwrap(), None);
    store.put("a", "1").unwrap();
    store.put("a", "2 ä\n\0").unwrap();
    assert_eq!(store.get("a").unwrap().as_deref(), Some("2 ä\n\0"));
    assert!(store.remove("a").unwrap());
    assert!(!store.remove("a").unwrap());
    assert_eq!(store.get("a").unwrap(), None);

    let huge = "x".repeat(TEXT_BYTES_MAX + 1);
    assert!(matches!(
        store.put("a", &huge),
        Err(StoreError::TooLarge { .. })
    ));
}

fn prefixes_are_bytes(store: &dyn Store) {
    for key in ["a_1", "ab1", "a%1", "A_1", "a_2", "ä_1"] {
        store.put(key, key).unwrap();
    }
    let keys = |prefix: &str| -> Vec<String> {
        let found = store.list(prefix).unwrap();
        found.into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(keys("a_"), ["a_1", "a_2"]);
    assert_eq!(keys("a%"), ["a%1"]);
    assert_eq!(keys("ä"), ["ä_1"]);
    assert_eq!(keys("").len(), 6);
    assert_eq!(keys("zz").len(), 0);
}

fn epochs_never_fall(store: &dyn Store) {
    assert_eq!(store.epoch(&unit()).unwrap(), None);
    assert_eq!(store.set_epoch(&unit(), 3).unwrap(), 3);
    assert_eq!(store.set_epoch(&unit(), 2).unwrap(), 3);
    assert_eq!(store.epoch(&unit()).unwrap(), Some(3));
    assert_eq!(store.set_epoch(&unit(), 4).unwrap(), 4);
    let other: UnitId = "machine/edge".parse().unwrap();
    assert_eq!(store.epoch(&other).unwrap(), None);
}

fn settled(store: &dyn Store) {
    assert_eq!(store.settled(&unit()).unwrap(), None);
    for (digit, at_s) in [('a', 1), ('b', 2)] {
        let settled = Settled {
            commit: commit(digit),
            digest: Digest::of(b"desired"),
            at_s,
        };
        store.set_settled(&unit(), &settled).unwrap();
        assert_eq!(store.settled(&unit()).unwrap(), Some(settled));
    }
}

fn baselines(store: &dyn Store) {
    let (edge, home): (ClusterName, ClusterName) =
        ("edge".parse().unwrap(), "home".parse().unwrap());
    let rebuilt = Recorded {
        rebuilt: true,
        ..recorded("2")
    };
    store
        .put_baselines(&[
            (edge.clone(), "ConfigMap/b".to_owned(), recorded("1")),
            (edge.clone(), "ConfigMap/a".to_owned(), rebuilt.clone()),
            (home.clone(), "ConfigMap/a".to_owned(), recorded("3")),
        ])
        .unwrap();
    assert_eq!(
        store.baselines(&edge).unwrap(),
        [
            ("ConfigMap/a".to_owned(), rebuilt),
            ("ConfigMap/b".to_owned(), recorded("1")),
        ]
    );
    store
        .put_baselines(&[(edge.clone(), "ConfigMap/b".to_owned(), recorded("4"))])
        .unwrap();
    assert_eq!(
        store.baseline(&edge, "ConfigMap/b").unwrap(),
        Some(recorded("4"))
    );
    assert!(store.remove_baseline(&edge, "ConfigMap/b").unwrap());
    assert!(!store.remove_baseline(&edge, "ConfigMap/b").unwrap());
    assert_eq!(store.baseline(&edge, "ConfigMap/b").unwrap(), None);
    assert_eq!(
        store.baseline(&home, "ConfigMap/a").unwrap(),
        Some(recorded("3"))
    );
}

fn baselines_of_a_thousand(store: &dyn Store) {
    let edge: ClusterName = "edge".parse().unwrap();
    let records: Vec<_> = (0..1000)
        .map(|n| (edge.clone(), format!("ConfigMap/{n:04}"), recorded("x")))
        .collect();
    store.put_baselines(&records).unwrap();
    let found = store.baselines(&edge).unwrap();
    assert_eq!(found.len(), 1000);
    assert!(found.is_sorted_by(|one, two| one.0 < two.0));
}

fn baselines_all_or_none(store: &dyn Store) {
    let edge: ClusterName = "edge".parse().unwrap();
    let huge = Recorded {
        baseline: "x".repeat(TEXT_BYTES_MAX + 1),
        ..recorded("x")
    };
    let records = [
        (edge.clone(), "ConfigMap/a".to_owned(), recorded("1")),
        (edge.clone(), "ConfigMap/b".to_owned(), huge),
    ];
    assert!(store.put_baselines(&records).is_err());
    assert_eq!(store.baselines(&edge).unwrap(), []);
}

fn journal(store: &dyn Store) {
    let rows: Vec<i64> = ["a", "b", "c"]
        .iter()
        .map(|subject| store.step_started(&entry(subject), 10).unwrap())
        .collect();
    let failed = Outcome::Failed("full\ndisk".to_owned());
    store.step_ended(rows[1], &failed, 20).unwrap();

    let open: Vec<String> = store
        .unfinished()
        .unwrap()
        .into_iter()
        .map(|record| record.entry.subject)
        .collect();
    assert_eq!(open, ["a", "c"]);

    assert_eq!(
        store.abandon_unfinished("trueup began anew", 30).unwrap(),
        2
    );
    assert_eq!(store.unfinished().unwrap(), []);
    let history = store.history(10).unwrap();
    let ends: Vec<_> = history.iter().map(|record| record.end.clone()).collect();
    let unknown = Outcome::Unknown("trueup began anew".to_owned());
    assert_eq!(
        ends,
        [
            Some((30, unknown.clone())),
            Some((20, Outcome::Failed("full disk".to_owned()))),
            Some((30, unknown)),
        ]
    );
    assert_eq!(history[2].entry, entry("a"));
    assert_eq!(history[2].started_s, 10);
    assert_eq!(store.history(1).unwrap().len(), 1);
}

fn journal_keeps_the_first_end(store: &dyn Store) {
    let row = store.step_started(&entry("a"), 10).unwrap();
    store.step_ended(row, &Outcome::Done, 20).unwrap();
    let late = Outcome::Fenced("x".repeat(WHY_CHARS_MAX * 2));
    store.step_ended(row, &late, 30).unwrap();
    store.step_ended(row + 100, &late, 30).unwrap();
    let history = store.history(10).unwrap();
    assert_eq!(history.len(), 1);
    assert_eq!(history[0].end, Some((20, Outcome::Done)));

    let row = store.step_started(&entry("b"), 10).unwrap();
    store.step_ended(row, &late, 30).unwrap();
    let Some((30, Outcome::Fenced(why))) = &store.history(1).unwrap()[0].end else {
        panic!("the second row has no end");
    };
    assert_eq!(why.chars().count(), WHY_CHARS_MAX);
}

fn equal_words_are_decided_once(store: &dyn Store) {
    let word = verdict("t/plan", VerdictState::Success, "no findings");
    assert!(store.decide(&word, 1).unwrap());
    assert!(!store.decide(&word, 2).unwrap());
    let other = verdict("t/plan", VerdictState::Failure, "no findings");
    assert!(store.decide(&other, 3).unwrap());
    assert!(store.decide(&word, 4).unwrap(), "not the newest any more");
    assert_eq!(waiting(store, NOTES), 3);
}

const NOTES: &str = "notes";
const FORGE: &str = "gitea git.example.org/ops/fleet";

fn waiting(store: &dyn Store, destination: &str) -> u64 {
    let owed = store.owed().unwrap();
    owed.iter()
        .find(|owed| owed.destination == destination)
        .map_or(0, |owed| owed.waiting)
}

fn two_destinations(store: &dyn Store) {
    let names = [NOTES.to_owned(), FORGE.to_owned()];
    store.set_destinations(&names, 1).unwrap();
}

fn each_destination_for_itself(store: &dyn Store) {
    two_destinations(store);
    for (state, text) in [(VerdictState::Failure, "1"), (VerdictState::Success, "2")] {
        store.decide(&verdict("a", state, text), 1).unwrap();
    }
    let first = store.next_unsent(FORGE, 1).unwrap().unwrap();
    store.mark_failed(FORGE, first.seq, "no route", 50).unwrap();
    // The outage of one does not hold up the other, nor count as its attempt.
    assert_eq!(drain(store, 1), ["a 1", "a 2"]);
    assert_eq!(store.next_unsent(FORGE, 49).unwrap(), None);
    let record = store.newest(&commit('a'), "a").unwrap().unwrap();
    let states: Vec<_> = record.deliveries.iter().map(|d| d.state).collect();
    assert_eq!(states, [DeliveryState::Queued, DeliveryState::Sent]);
    let owed = store.owed().unwrap();
    assert_eq!((owed[0].waiting, owed[0].why.as_str()), (2, "no route"));
    assert_eq!((owed[1].waiting, owed[1].why.as_str()), (0, ""));

    let again = store.next_unsent(FORGE, 50).unwrap().unwrap();
    assert_eq!((again.seq, again.attempts), (first.seq, 1));
    store.mark_sent(FORGE, again.seq, 50).unwrap();
    let last = store.next_unsent(FORGE, 50).unwrap().unwrap();
    store.mark_refused(FORGE, last.seq, "too many", 50).unwrap();
    let owed = store.owed().unwrap();
    assert_eq!(owed[0].waiting, 0);
    assert_eq!(
        (owed[0].refused, owed[0].refused_why.as_str()),
        (1, "too many")
    );
}

/// The reason stays when the word that met it is passed over.
fn why_nothing_arrives(store: &dyn Store) {
    store
        .decide(&verdict("a", VerdictState::Pending, "1"), 1)
        .unwrap();
    let first = store.next_unsent(NOTES, 1).unwrap().unwrap();
    store
        .decide(&verdict("a", VerdictState::Success, "2"), 1)
        .unwrap();
    store.mark_failed(NOTES, first.seq, "no scope", 50).unwrap();
    let owed = store.owed().unwrap();
    assert_eq!((owed[0].waiting, owed[0].why.as_str()), (1, "no scope"));
    let second = store.next_unsent(NOTES, 1).unwrap().unwrap();
    store.mark_sent(NOTES, second.seq, 1).unwrap();
    let owed = store.owed().unwrap();
    assert_eq!((owed[0].waiting, owed[0].why.as_str()), (0, ""));
}

fn a_destination_comes_and_goes(store: &dyn Store) {
    let old = Verdict::new(commit('b'), "a", VerdictState::Success, "an old commit");
    store.decide(&old, 1).unwrap();
    for (context, state, text) in [
        ("a", VerdictState::Pending, "1"),
        ("a", VerdictState::Success, "2"),
        ("b", VerdictState::Failure, "3"),
    ] {
        store.decide(&verdict(context, state, text), 1).unwrap();
    }
    two_destinations(store);
    two_destinations(store);
    assert_eq!(waiting(store, FORGE), 2, "the newest of the last commit");
    let next = store.next_unsent(FORGE, 1).unwrap().unwrap();
    assert_eq!(next.verdict.description, "2");

    store.set_destinations(&[NOTES.to_owned()], 2).unwrap();
    assert_eq!(store.next_unsent(FORGE, 99).unwrap(), None);
    assert_eq!(store.owed().unwrap().len(), 1);
    two_destinations(store);
    let next = store.next_unsent(FORGE, 99).unwrap().unwrap();
    assert_eq!((next.verdict.description.as_str(), next.attempts), ("2", 1));
}

/// Delivers everything that is due, in the order in which it is offered.
fn drain(store: &dyn Store, now_s: u64) -> Vec<String> {
    let mut seen = Vec::new();
    while let Some(next) = store.next_unsent(NOTES, now_s).unwrap() {
        seen.push(format!(
            "{} {}",
            next.verdict.context, next.verdict.description
        ));
        store.mark_sent(NOTES, next.seq, now_s).unwrap();
    }
    seen
}

fn order_per_context(store: &dyn Store) {
    for (context, state, text) in [
        ("a", VerdictState::Failure, "1"),
        ("a", VerdictState::Success, "2"),
        ("b", VerdictState::Success, "3"),
    ] {
        store.decide(&verdict(context, state, text), 1).unwrap();
    }
    assert_eq!(store.next_due_s(NOTES).unwrap(), Some(0));
    let first = store.next_unsent(NOTES, 1).unwrap().unwrap();
    assert_eq!(first.verdict.description, "1");
    store.mark_failed(NOTES, first.seq, "no route", 50).unwrap();

    // The second word of `a` waits for the first; `b` does not.
    assert_eq!(drain(store, 1), ["b 3"]);
    assert_eq!(store.next_due_s(NOTES).unwrap(), Some(50));
    assert_eq!(drain(store, 49), [""; 0]);
    assert_eq!(drain(store, 50), ["a 1", "a 2"]);
    assert_eq!(waiting(store, NOTES), 0);
    assert_eq!(store.next_due_s(NOTES).unwrap(), None);
}

fn pending_is_passed_over(store: &dyn Store) {
    for text in ["1", "2", "3"] {
        let word = verdict("a", VerdictState::Pending, text);
        store.decide(&word, 1).unwrap();
    }
    let other = Verdict::new(commit('b'), "a", VerdictState::Pending, "other commit");
    store.decide(&other, 1).unwrap();
    assert_eq!(drain(store, 1), ["a 3", "a other commit"]);
}

fn final_states_are_never_dropped(store: &dyn Store) {
    for (state, text) in [
        (VerdictState::Pending, "1"),
        (VerdictState::Failure, "2"),
        (VerdictState::Pending, "3"),
        (VerdictState::Success, "4"),
        (VerdictState::Error, "5"),
    ] {
        store.decide(&verdict("a", state, text), 1).unwrap();
    }
    assert_eq!(drain(store, 1), ["a 2", "a 4", "a 5"]);
}

fn passed_over_on_its_way(store: &dyn Store) {
    store
        .decide(&verdict("a", VerdictState::Pending, "1"), 1)
        .unwrap();
    let first = store.next_unsent(NOTES, 1).unwrap().unwrap();
    store
        .decide(&verdict("a", VerdictState::Success, "2"), 1)
        .unwrap();
    store
        .mark_failed(NOTES, first.seq, "reply lost", 9)
        .unwrap();
    store.mark_sent(NOTES, first.seq, 1).unwrap();
    assert_eq!(drain(store, 1), ["a 2"]);
}

fn attempts_are_counted(store: &dyn Store) {
    store
        .decide(&verdict("a", VerdictState::Success, "1"), 7)
        .unwrap();
    for attempts in 0..3 {
        // Also where nobody says how the attempt ended: a crash in between.
        let next = store.next_unsent(NOTES, 10).unwrap().unwrap();
        assert_eq!(next.attempts, attempts);
        assert_eq!(next.decided_s, 7);
        if attempts == 1 {
            store.mark_failed(NOTES, next.seq, "timeout", 10).unwrap();
            let record = store.newest(&commit('a'), "a").unwrap().unwrap();
            let delivery = &record.deliveries[0];
            assert_eq!((delivery.attempts, delivery.why.as_str()), (2, "timeout"));
        }
    }
}

fn refused_is_not_offered_again(store: &dyn Store) {
    let word = verdict("a", VerdictState::Success, "1");
    store.decide(&word, 1).unwrap();
    let next = store.next_unsent(NOTES, 1).unwrap().unwrap();
    store
        .mark_refused(NOTES, next.seq, "no such commit", 2)
        .unwrap();
    assert_eq!(store.next_unsent(NOTES, 99).unwrap(), None);
    let record = store.newest(&commit('a'), "a").unwrap().unwrap();
    assert_eq!(record.deliveries[0].state, DeliveryState::Refused);
    assert_eq!(record.deliveries[0].why, "no such commit");
    assert!(!store.decide(&word, 3).unwrap());
}

fn newest_and_all_of_a_commit(store: &dyn Store) {
    assert_eq!(store.newest(&commit('a'), "b").unwrap(), None);
    for (context, state) in [
        ("b", VerdictState::Pending),
        ("a", VerdictState::Failure),
        ("b", VerdictState::Success),
    ] {
        store.decide(&verdict(context, state, "x"), 1).unwrap();
    }
    let newest = store.newest(&commit('a'), "b").unwrap().unwrap();
    assert_eq!(newest.verdict.state, VerdictState::Success);
    assert_eq!(newest.deliveries[0].state, DeliveryState::Queued);
    let all: Vec<_> = store
        .verdicts_of(&commit('a'))
        .unwrap()
        .into_iter()
        .map(|record| (record.verdict.context, record.verdict.state))
        .collect();
    assert_eq!(
        all,
        [
            ("a".to_owned(), VerdictState::Failure),
            ("b".to_owned(), VerdictState::Success),
        ]
    );
    assert_eq!(store.verdicts_of(&commit('b')).unwrap(), []);
}

fn grants_expire(store: &dyn Store) {
    let grant = |id: &str, expires_s| Grant {
        id: id.to_owned(),
        what: "{\"step\":\"x\"}".to_owned(),
        author: "uid 1000".to_owned(),
        reason: "planned".to_owned(),
        at_s: 1,
        expires_s,
    };
    store.grant(&grant("b", 10)).unwrap();
    store.grant(&grant("a", 20)).unwrap();
    assert_eq!(store.grants(9).unwrap(), [grant("a", 20), grant("b", 10)]);
    assert_eq!(store.grants(10).unwrap(), [grant("a", 20)]);
    store.grant(&grant("a", 30)).unwrap();
    assert_eq!(store.grants(20).unwrap(), [grant("a", 30)]);
    assert!(store.revoke("a").unwrap());
    assert!(!store.revoke("a").unwrap());
    assert_eq!(store.grants(10).unwrap(), []);
}

fn pauses_end(store: &dyn Store) {
    let pause = |target: &str, until_s| Pause {
        target: target.to_owned(),
        reason: "disk swap".to_owned(),
        author: "uid 1000".to_owned(),
        at_s: 1,
        until_s,
    };
    store.pause(&pause("cluster/edge", Some(10))).unwrap();
    store.pause(&pause("app/web", None)).unwrap();
    assert_eq!(store.pauses(9).unwrap().len(), 2);
    assert_eq!(store.pauses(10).unwrap(), [pause("app/web", None)]);
    assert!(store.resume("app/web").unwrap());
    assert!(!store.resume("app/web").unwrap());
    assert_eq!(store.pauses(10).unwrap(), []);
}

fn commits(store: &dyn Store) {
    let home: FleetName = "home".parse().unwrap();
    assert_eq!(store.last_commit(&home).unwrap(), None);
    assert!(store.commit_seen(&home, &commit('a'), 1).unwrap());
    assert!(!store.commit_seen(&home, &commit('a'), 2).unwrap());
    assert!(store.commit_seen(&home, &commit('b'), 3).unwrap());
    // A branch that was set back has the earlier commit as its tip again.
    assert!(store.commit_seen(&home, &commit('a'), 4).unwrap());
    let other: FleetName = "lab".parse().unwrap();
    assert!(store.commit_seen(&other, &commit('c'), 5).unwrap());
    let last = store.last_commit(&home).unwrap().unwrap();
    assert_eq!((last.commit, last.at_s), (commit('a'), 4));
    let seen: Vec<u64> = store
        .commits(&home, 10)
        .unwrap()
        .iter()
        .map(|seen| seen.at_s)
        .collect();
    assert_eq!(seen, [4, 3, 1]);
}
