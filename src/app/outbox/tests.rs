//! Hours of a forge in virtual time: the clock is a number, the forge a double of the
//! port that fails as forges do.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use camino::Utf8PathBuf;
use trueup_drivers::store::SqliteStore;
use trueup_model::port::store::DeliveryState;
use trueup_model::verdict::VerdictState;

use super::*;

const TO: &str = "gitea git.example.org/ops/fleet";

/// What the forge does with a request.
#[derive(Debug, Clone, PartialEq)]
enum Mood {
    Well,
    /// Carried out, and the reply is lost.
    Deaf,
    /// No answer; carried out when the clock says so.
    Late(u64),
    Fails(ForgeError),
}

#[derive(Debug)]
struct Double {
    mood: Mutex<Mood>,
    /// The only context that the mood is about; empty: all.
    about: Mutex<String>,
    taken: Mutex<Vec<Verdict>>,
    late: Mutex<Vec<(u64, Verdict)>>,
    asked: AtomicU64,
}

#[async_trait]
impl Forge for Double {
    async fn newest(
        &self,
        commit: &CommitId,
        context: &str,
    ) -> Result<Option<Verdict>, ForgeError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if let Mood::Fails(error) = self.mood(context) {
            return Err(error);
        }
        Ok(self.newest_of(commit, context))
    }

    async fn publish(&self, verdict: &Verdict) -> Result<(), ForgeError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let lost = || ForgeError::Later("no answer within 20 s".to_owned());
        match self.mood(&verdict.context) {
            Mood::Well => {}
            Mood::Fails(error) => return Err(error),
            Mood::Late(at) => {
                self.late.lock().unwrap().push((at, verdict.clone()));
                return Err(lost());
            }
            Mood::Deaf => {
                self.taken.lock().unwrap().push(verdict.clone());
                return Err(lost());
            }
        }
        self.taken.lock().unwrap().push(verdict.clone());
        Ok(())
    }
}

impl Double {
    fn mood(&self, context: &str) -> Mood {
        let about = self.about.lock().unwrap();
        if about.is_empty() || *about == context {
            self.mood.lock().unwrap().clone()
        } else {
            Mood::Well
        }
    }
    fn newest_of(&self, commit: &CommitId, context: &str) -> Option<Verdict> {
        let taken = self.taken.lock().unwrap();
        let mut of = taken.iter().rev();
        of.find(|one| one.commit == *commit && one.context == context)
            .cloned()
    }
    /// What was held up on its way arrives.
    fn late_arrives(&self, now_s: u64) {
        let mut late = self.late.lock().unwrap();
        late.retain(|(at, verdict)| {
            let arrives = *at <= now_s;
            if arrives {
                self.taken.lock().unwrap().push(verdict.clone());
            }
            !arrives
        });
    }
    fn count(&self) -> usize {
        self.taken.lock().unwrap().len()
    }
}

struct Bench {
    _dir: tempfile::TempDir,
    store: Arc<SqliteStore>,
    forge: Arc<Double>,
    courier: Courier,
    now_s: u64,
}

fn commit(digit: char) -> CommitId {
    digit.to_string().repeat(40).parse().unwrap()
}

fn outage() -> Mood {
    Mood::Fails(ForgeError::Later("connection refused".to_owned()))
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().join("trueup.db")).unwrap();
        let store = Arc::new(SqliteStore::open(&path).unwrap());
        store.set_destinations(&[TO.to_owned()], 0).unwrap();
        let forge = Arc::new(Double {
            mood: Mutex::new(Mood::Well),
            about: Mutex::default(),
            taken: Mutex::default(),
            late: Mutex::default(),
            asked: AtomicU64::new(0),
        });
        let courier = Courier::new(
            TO.to_owned(),
            Arc::clone(&store) as Arc<dyn Store>,
            Arc::clone(&forge) as Arc<dyn Forge>,
        );
        Self {
            _dir: dir,
            store,
            forge,
            courier,
            now_s: 1_000_000,
        }
    }

    fn mood(&self, mood: Mood) {
        *self.forge.mood.lock().unwrap() = mood;
    }

    fn say(&self, context: &str, state: VerdictState, text: &str) -> Verdict {
        let verdict = Verdict::new(commit('a'), context, state, text);
        self.store.decide(&verdict, self.now_s).unwrap();
        verdict
    }

    /// trueup ends and starts again.
    fn restart(&mut self) {
        let store = Arc::clone(&self.store) as Arc<dyn Store>;
        let forge = Arc::clone(&self.forge) as Arc<dyn Forge>;
        self.courier = Courier::new(TO.to_owned(), store, forge);
        self.courier.doubt(&commit('a'), self.now_s);
    }

    /// Seconds go by, with a pass in each.
    async fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now_s += 1;
            let now = self.now_s;
            self.forge.late_arrives(now);
            self.courier.pass(&move || now).await;
        }
    }

    fn is_true(&self) -> bool {
        let decided = self.store.verdicts_of(&commit('a')).unwrap();
        decided.iter().all(|record| {
            let context = &record.verdict.context;
            self.forge.newest_of(&commit('a'), context).as_ref() == Some(&record.verdict)
        })
    }

    fn waiting(&self) -> u64 {
        self.store.owed().unwrap()[0].waiting
    }
}

#[tokio::test]
async fn an_hour_without_the_forge() {
    let mut bench = Bench::new();
    bench.say("c/1", VerdictState::Pending, "begun");
    bench.wait(5).await;
    assert!(bench.is_true());
    bench.mood(outage());
    let begun = bench.forge.asked.load(Ordering::Relaxed);
    for minute in 0..60 {
        for context in ["c/1", "c/2", "c/3"] {
            let state = if minute % 3 == 2 {
                VerdictState::Failure
            } else {
                VerdictState::Pending
            };
            bench.say(context, state, &format!("minute {minute}"));
        }
        if minute % 20 == 10 {
            bench.restart();
        }
        bench.wait(60).await;
    }
    let asked = bench.forge.asked.load(Ordering::Relaxed) - begun;
    assert!((50..150).contains(&asked), "{asked} requests in an hour");
    assert!(!bench.is_true());
    bench.mood(Mood::Well);
    bench.wait(LONGEST_S * 2).await;
    assert!(bench.is_true());
    assert_eq!(bench.waiting(), 0);
    // Final words are all there, in order, each once.
    let taken = bench.forge.taken.lock().unwrap().clone();
    for context in ["c/1", "c/2", "c/3"] {
        let minutes: Vec<u32> = taken
            .iter()
            .filter(|one| one.context == context && one.state == VerdictState::Failure)
            .map(|one| one.description["minute ".len()..].parse().unwrap())
            .collect();
        let expected: Vec<u32> = (0..20).map(|n| n * 3 + 2).collect();
        assert_eq!(minutes, expected, "{context}");
    }
}

#[tokio::test]
async fn lost_replies_are_not_repeated() {
    let mut bench = Bench::new();
    for n in 0..10 {
        bench.mood(if n % 2 == 0 { Mood::Deaf } else { Mood::Well });
        bench.say("c", VerdictState::Failure, &format!("word {n}"));
        bench.wait(1).await;
        if n == 4 {
            bench.restart();
        }
        bench.mood(Mood::Well);
        bench.wait(LONGEST_S).await;
        assert!(bench.is_true(), "after word {n}");
    }
    assert_eq!(bench.forge.count(), 10, "no word twice");
}

#[tokio::test]
async fn a_word_that_arrives_after_a_later_one_is_put_right() {
    let mut bench = Bench::new();
    bench.mood(Mood::Late(bench.now_s + 20));
    bench.say("c", VerdictState::Pending, "working");
    bench.wait(1).await;
    bench.mood(Mood::Well);
    let last = bench.say("c", VerdictState::Success, "true");
    bench.wait(5).await;
    let newest = bench.forge.newest_of(&commit('a'), "c");
    assert_eq!(newest.as_ref(), Some(&last));
    bench.wait(20).await;
    assert!(!bench.is_true(), "the late word has arrived");
    bench.wait(SECOND_LOOK_S).await;
    assert!(bench.is_true());
    let count = bench.forge.count();
    bench.wait(600).await;
    assert_eq!(bench.forge.count(), count, "and that is all");
}

#[tokio::test]
async fn a_wrong_token_is_tried_slowly_until_it_is_right() {
    let mut bench = Bench::new();
    let denied = ForgeError::Denied("the token may not do this; it needs a scope".to_owned());
    bench.mood(Mood::Fails(denied));
    for n in 0..100 {
        bench.say(&format!("c/{n}"), VerdictState::Success, "true");
    }
    bench.wait(3600).await;
    let asked = bench.forge.asked.load(Ordering::Relaxed);
    assert!(asked <= 3600 / 90 + 4, "{asked} requests in an hour");
    let owed = &bench.store.owed().unwrap()[0];
    assert_eq!(owed.waiting, 100);
    assert!(owed.why.contains("it needs a scope"), "{}", owed.why);
    bench.mood(Mood::Well);
    bench.wait(DENIED_S + LONGEST_S * 2).await;
    assert!(bench.is_true());
}

#[tokio::test]
async fn a_limit_is_waited_for_as_told() {
    let mut bench = Bench::new();
    bench.mood(Mood::Fails(ForgeError::Busy {
        why: "rate limit".to_owned(),
        wait_s: 900,
    }));
    for context in ["a", "b", "c"] {
        bench.say(context, VerdictState::Success, "true");
    }
    bench.wait(1).await;
    bench.mood(Mood::Well);
    bench.wait(899).await;
    assert_eq!(bench.forge.asked.load(Ordering::Relaxed), 1);
    bench.wait(60).await;
    assert!(bench.is_true());
}

#[tokio::test]
async fn a_commit_that_comes_late_and_one_that_never_does() {
    for (seconds, state) in [
        (UNKNOWN_S / 2, DeliveryState::Sent),
        (UNKNOWN_S * 2, DeliveryState::Refused),
    ] {
        let mut bench = Bench::new();
        *bench.forge.about.lock().unwrap() = "mirrored".to_owned();
        let unknown = ForgeError::UnknownCommit("no such commit".to_owned());
        bench.mood(Mood::Fails(unknown));
        bench.say("mirrored", VerdictState::Success, "true");
        bench.say("other", VerdictState::Success, "true");
        bench.wait(2).await;
        assert_eq!(bench.forge.count(), 1, "the other goes on");
        bench.wait(seconds).await;
        bench.mood(Mood::Well);
        bench.wait(LONGEST_S * 2).await;
        let record = bench.store.newest(&commit('a'), "mirrored").unwrap();
        assert_eq!(record.unwrap().deliveries[0].state, state);
    }
}

#[tokio::test]
async fn a_word_that_the_forge_stumbles_over_does_not_stop_the_others() {
    let mut bench = Bench::new();
    *bench.forge.about.lock().unwrap() = "odd".to_owned();
    bench.mood(Mood::Fails(ForgeError::Later("HTTP 500".to_owned())));
    bench.say("odd", VerdictState::Success, "true");
    for n in 0..20 {
        bench.say(&format!("c/{n}"), VerdictState::Success, "true");
    }
    bench.wait(60).await;
    assert_eq!(bench.forge.count(), 20);
    assert_eq!(bench.waiting(), 1);
    bench.mood(Mood::Fails(ForgeError::Refused(
        "HTTP 422: full".to_owned(),
    )));
    bench.wait(LONGEST_S * 2).await;
    let owed = &bench.store.owed().unwrap()[0];
    assert_eq!((owed.waiting, owed.refused), (0, 1));
    assert!(owed.refused_why.contains("full"), "{}", owed.refused_why);
}
