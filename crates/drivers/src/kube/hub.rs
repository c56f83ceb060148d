//! Where the watches, the resolver and the readers meet: the cache, the health of
//! each watch, and the wake-ups. Locks are held for moments and never over an await.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cache::{Cache, Subject};
use super::caller::Caller;
use super::resource::Resources;
use super::wire::Fault;

/// A watch without event or bookmark for so long is blind. The API server sends a
/// bookmark about every minute.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(180);

/// How one watch is.
#[derive(Debug, Clone)]
pub(crate) struct FeedState {
    /// It was listed whole at least once.
    pub(crate) in_step: bool,
    /// The kind is not served: there is nothing to watch, and nothing can exist.
    pub(crate) not_served: bool,
    /// Last event, bookmark or list.
    pub(crate) heard: Option<Instant>,
    /// Why it fails, while it does.
    pub(crate) failure: Option<(Fault, String)>,
    /// How often it began anew; tests and `in step` waits look at it.
    pub(crate) attempts: u32,
}

/// The cache with the watches' health.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) cache: Cache,
    pub(crate) feeds: BTreeMap<Subject, FeedState>,
    /// Why objects could not be asked for by name, by blind key.
    pub(crate) unresolved: BTreeMap<String, String>,
}

impl State {
    /// Watches that are silent for too long or never came into step, with the reason.
    pub(crate) fn blind(&self, now: Instant) -> BTreeMap<String, String> {
        let mut blind = BTreeMap::new();
        for (subject, feed) in &self.feeds {
            let failure = feed.failure.as_ref().map(|(_, why)| why.as_str());
            let silent = feed
                .heard
                .is_none_or(|heard| now.duration_since(heard) > SILENCE_MAX);
            let why = if feed.not_served {
                continue;
            } else if !feed.in_step {
                failure
                    .unwrap_or("the first list has not come yet")
                    .to_owned()
            } else if silent {
                let minutes = SILENCE_MAX.as_secs() / 60;
                let failure = failure.unwrap_or("the connection is silent");
                format!("nothing heard for over {minutes} minutes: {failure}")
            } else {
                continue;
            };
            blind.insert(subject.blind_key(), why);
        }
        for (key, why) in &self.unresolved {
            blind.entry(key.clone()).or_insert_with(|| why.clone());
        }
        blind
    }
}

/// Shared by everything that belongs to one cluster.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) caller: Caller,
    pub(crate) resources: Resources,
    state: Mutex<State>,
    /// The cache's change counter, for those who wait.
    changes: watch::Sender<u64>,
    /// Something must be asked for by name.
    pub(crate) look_up: Notify,
    /// A feed or the resolver got a step further.
    pub(crate) progress: Notify,
    pub(crate) stop: CancellationToken,
    resolver: AtomicBool,
}

impl Hub {
    pub(crate) fn new(caller: Caller) -> Self {
        Self {
            caller,
            resources: Resources::default(),
            state: Mutex::new(State::default()),
            changes: watch::Sender::new(0),
            look_up: Notify::new(),
            progress: Notify::new(),
            stop: CancellationToken::new(),
            resolver: AtomicBool::new(false),
        }
    }

    /// True for the first who asks: the resolver is then theirs to start.
    pub(crate) fn take_resolver(&self) -> bool {
        !self.resolver.swap(true, Ordering::Relaxed)
    }

    /// Read without waking anybody.
    pub(crate) fn read(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Change the state, then wake those whom it concerns.
    pub(crate) fn change<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let (out, change, lookups) = {
            let mut state = self.read();
            let out = act(&mut state);
            (out, state.cache.change, state.cache.take_look())
        };
        self.changes.send_if_modified(|seen| {
            let fresh = *seen != change;
            *seen = change;
            fresh
        });
        if lookups {
            self.look_up.notify_one();
        }
        self.progress.notify_waiters();
        out
    }

    /// A watch on the change counter.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_blindness() {
        let now = Instant::now() + SILENCE_MAX * 4;
        let feed = |ago: Option<Duration>, in_step: bool, not_served: bool| FeedState {
            in_step,
            not_served,
            heard: ago.map(|ago| now - ago),
            failure: None,
            attempts: 0,
        };
        let second = Duration::from_secs(1);
        let table = [
            (feed(Some(second), true, false), false),
            (feed(Some(SILENCE_MAX), true, false), false),
            (feed(Some(SILENCE_MAX + second), true, false), true),
            (feed(None, false, false), true),
            (feed(Some(SILENCE_MAX * 2), false, true), false),
        ];
        for (feed, wanted) in table {
            let subject = Subject::Kind("v1".to_owned(), "ConfigMap".to_owned());
            let mut state = State::default();
            state.feeds.insert(subject, feed.clone());
            let blind = state.blind(now);
            assert_eq!(
                blind.contains_key("v1 ConfigMap"),
                wanted,
                "{feed:?} {blind:?}"
            );
        }
    }
}
