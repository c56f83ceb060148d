//! The outbox: verdicts decided and durable, delivered at least once and in order to
//! each destination. Every destination has a courier of its own: the outage of one
//! holds up nobody else, and never the loop.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use trueup_model::id::CommitId;
use trueup_model::port::store::{Outgoing, Store};
use trueup_model::port::{Forge, ForgeError, StoreError};
use trueup_model::verdict::Verdict;

/// First wait after a failed delivery, in seconds; doubled up to [`LONGEST_S`].
const FIRST_S: u64 = 2;
/// An outage of an hour is over a minute after the forge is back.
const LONGEST_S: u64 = 60;
/// A person has to do something first: asked whether it is done, at first so soon.
const DENIED_FIRST_S: u64 = 15;
/// And then this often.
const DENIED_S: u64 = 120;
/// A commit that the forge does not know may still be on its way (a mirror of the
/// repository); after this time of asking it is not.
const UNKNOWN_S: u64 = 10 * 60;
/// A word whose delivery nobody answered may still arrive, after a later one: the
/// newest is read once more this long after. Longer than any request lives.
const SECOND_LOOK_S: u64 = 45;
/// One delivery with all its questions; each request has a deadline of its own.
const DELIVERY_LIMIT: Duration = Duration::from_secs(90);
/// Deliveries in one go: the rest is due at once.
const BATCH_MAX: usize = 50;

/// Brings verdicts to one destination.
#[derive(Debug)]
pub(crate) struct Courier {
    destination: String,
    store: Arc<dyn Store>,
    forge: Arc<dyn Forge>,
    /// Nothing is tried before.
    resume_s: u64,
    /// Failures of the destination since it last took something.
    failures: u32,
    /// What is wrong with it, as it was logged.
    problem: Option<String>,
    /// Since when the forge says that it does not know the commit of a verdict.
    unknown: BTreeMap<i64, u64>,
    /// When the newest of a context is to be read once more.
    second_looks: BTreeMap<(CommitId, String), u64>,
}

impl Courier {
    pub(crate) fn new(destination: String, store: Arc<dyn Store>, forge: Arc<dyn Forge>) -> Self {
        Self {
            destination,
            store,
            forge,
            resume_s: 0,
            failures: 0,
            problem: None,
            unknown: BTreeMap::new(),
            second_looks: BTreeMap::new(),
        }
    }

    /// After a start: a delivery of the earlier run may be under way still.
    pub(crate) fn doubt(&mut self, commit: &CommitId, now_s: u64) {
        for record in self.store.verdicts_of(commit).unwrap_or_default() {
            let key = (record.verdict.commit, record.verdict.context);
            self.second_looks.insert(key, now_s + SECOND_LOOK_S);
        }
    }

    /// Deliver what is due; how many arrived. `now` is asked again after each.
    pub(crate) async fn pass(&mut self, now: &(dyn Fn() -> u64 + Sync)) -> usize {
        let mut arrived = 0;
        for _ in 0..BATCH_MAX {
            if now() < self.resume_s {
                return arrived;
            }
            let outgoing = match self.store.next_unsent(&self.destination, now()) {
                Ok(Some(outgoing)) => outgoing,
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "the outbox cannot be read");
                    return arrived;
                }
            };
            let result = tokio::time::timeout(DELIVERY_LIMIT, self.deliver(&outgoing));
            let result = result.await.unwrap_or_else(|_| {
                let limit = DELIVERY_LIMIT.as_secs();
                Err(ForgeError::Later(format!("it took longer than {limit} s")))
            });
            if result.is_ok() {
                let (to, context) = (&self.destination, &outgoing.verdict.context);
                tracing::debug!(to, context, "delivered");
            }
            arrived += usize::from(result.is_ok());
            if let Err(error) = self.note(&outgoing, result, now()) {
                tracing::warn!(%error, "a delivery is not recorded");
                return arrived;
            }
        }
        self.look_again(now).await;
        arrived
    }

    /// A verdict that may have arrived is looked for before it is repeated.
    async fn deliver(&self, outgoing: &Outgoing) -> Result<(), ForgeError> {
        let verdict = &outgoing.verdict;
        if outgoing.attempts > 0 && self.stands(verdict).await? {
            return Ok(());
        }
        self.forge.publish(verdict).await
    }

    async fn stands(&self, verdict: &Verdict) -> Result<bool, ForgeError> {
        let shown = self.forge.as_shown(verdict);
        let newest = self.forge.newest(&verdict.commit, &verdict.context).await?;
        Ok(newest == Some(shown))
    }

    fn note(
        &mut self,
        outgoing: &Outgoing,
        result: Result<(), ForgeError>,
        now_s: u64,
    ) -> Result<(), StoreError> {
        let (store, to, seq) = (Arc::clone(&self.store), &self.destination, outgoing.seq);
        let Err(error) = result else {
            self.is_well();
            self.unknown.remove(&seq);
            return store.mark_sent(&self.destination, seq, now_s);
        };
        let why = error.to_string();
        let wait = match error {
            ForgeError::Refused(_) => {
                self.refused(outgoing, &why);
                return store.mark_refused(&self.destination, seq, &why, now_s);
            }
            ForgeError::UnknownCommit(_) => {
                let since = *self.unknown.entry(seq).or_insert(now_s);
                if now_s.saturating_sub(since) >= UNKNOWN_S {
                    self.refused(outgoing, &why);
                    self.unknown.remove(&seq);
                    return store.mark_refused(&self.destination, seq, &why, now_s);
                }
                // Of this commit only: others go on.
                let retry_s = now_s + backoff(outgoing.attempts + 1);
                return store.mark_failed(to, seq, &why, retry_s);
            }
            ForgeError::Denied(_) => {
                let doubled = DENIED_FIRST_S.saturating_mul(1 << self.failures.min(10));
                self.failures = self.failures.saturating_add(1);
                jittered(doubled.min(DENIED_S))
            }
            ForgeError::Busy { wait_s, .. } => wait_s,
            ForgeError::Later(_) => {
                // The request may have arrived, or may do so yet.
                let key = (
                    outgoing.verdict.commit.clone(),
                    outgoing.verdict.context.clone(),
                );
                self.second_looks.insert(key, now_s + SECOND_LOOK_S);
                self.failures = self.failures.saturating_add(1);
                backoff(self.failures)
            }
        };
        self.is_ill(&why, wait);
        self.resume_s = now_s.saturating_add(wait);
        // After the others: one that the forge stumbles over does not stop them.
        let own_s = self.resume_s.saturating_add(1);
        store.mark_failed(&self.destination, seq, &why, own_s)
    }

    /// One message per problem, however often it is met.
    fn is_ill(&mut self, why: &str, wait_s: u64) {
        if self.problem.as_deref() != Some(why) {
            let to = &self.destination;
            tracing::warn!(to, why, wait_s, "verdicts are not delivered");
            self.problem = Some(why.to_owned());
        }
    }

    fn is_well(&mut self) {
        self.failures = 0;
        if self.problem.take().is_some() {
            tracing::info!(to = self.destination, "verdicts are delivered again");
        }
    }

    fn refused(&self, outgoing: &Outgoing, why: &str) {
        let (to, context) = (&self.destination, &outgoing.verdict.context);
        tracing::warn!(to, why, context, "a verdict is refused");
    }

    /// Where a request without an answer may have arrived after a later word: the last
    /// decided word is said again.
    async fn look_again(&mut self, now: &(dyn Fn() -> u64 + Sync)) {
        let due: Vec<(CommitId, String)> = self
            .second_looks
            .iter()
            .filter(|(_, at)| **at <= now())
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            let newest = self.store.newest(&key.0, &key.1).ok().flatten();
            let delivered = newest.filter(|record| {
                use trueup_model::port::store::DeliveryState::Sent;
                let mut deliveries = record.deliveries.iter();
                deliveries.any(|one| one.destination == self.destination && one.state == Sent)
            });
            // What is not delivered yet reads the newest before it is.
            let Some(record) = delivered else {
                self.second_looks.remove(&key);
                continue;
            };
            let said = match self.stands(&record.verdict).await {
                Ok(true) => Ok(()),
                Ok(false) => self.forge.publish(&record.verdict).await,
                Err(error) => Err(error),
            };
            match said {
                Ok(()) | Err(ForgeError::Refused(_) | ForgeError::UnknownCommit(_)) => {
                    self.second_looks.remove(&key);
                }
                Err(_) => {
                    self.second_looks.insert(key, now() + SECOND_LOOK_S);
                    return;
                }
            }
        }
    }
}

/// Seconds to wait after so many failures.
fn backoff(failures: u32) -> u64 {
    let doubled = FIRST_S.saturating_mul(1 << failures.saturating_sub(1).min(10));
    jittered(doubled.min(LONGEST_S))
}

/// Between three quarters and the whole: many hosts do not come back at once.
fn jittered(seconds: u64) -> u64 {
    let random = std::hash::RandomState::new().build_hasher().finish();
    let part = seconds / 4;
    seconds - random.checked_rem(part + 1).unwrap_or(0)
}

#[cfg(test)]
mod tests;
