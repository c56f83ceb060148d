//! The outbox: verdicts decided and durable, delivered at least once and in order.

use trueup_model::port::store::{Outgoing, Store};
use trueup_model::port::{Forge, ForgeError};

use super::clock::now_s;
use super::runtime::seconds;

/// First wait after a failed delivery, in seconds; doubled up to [`LONGEST_S`].
const FIRST_S: u64 = 2;
/// An outage of an hour is over a few minutes after the forge is back.
const LONGEST_S: u64 = 120;
/// Deliveries in one go: the loop has other things to do.
const BATCH_MAX: usize = 50;

/// Deliver what is due.
pub(crate) async fn deliver(store: &dyn Store, forge: &dyn Forge) {
    for _ in 0..BATCH_MAX {
        let outgoing = match store.next_unsent(seconds(now_s())) {
            Ok(Some(outgoing)) => outgoing,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "the outbox cannot be read");
                return;
            }
        };
        let result = one(forge, &outgoing).await;
        let now = seconds(now_s());
        let marked = match result {
            Ok(()) => store.mark_sent(outgoing.seq, now),
            Err(ForgeError::Later(why)) => {
                let wait = FIRST_S
                    .saturating_mul(1 << outgoing.attempts.min(10))
                    .min(LONGEST_S);
                store.mark_failed(outgoing.seq, &why, now.saturating_add(wait))
            }
            Err(ForgeError::Refused(why)) => {
                tracing::warn!(
                    why,
                    context = outgoing.verdict.context,
                    "a verdict is refused"
                );
                store.mark_refused(outgoing.seq, &why, now)
            }
        };
        if let Err(error) = marked {
            tracing::warn!(%error, "a delivery is not recorded");
            return;
        }
    }
}

/// A verdict that may have arrived is looked for before it is repeated.
async fn one(forge: &dyn Forge, outgoing: &Outgoing) -> Result<(), ForgeError> {
    let verdict = &outgoing.verdict;
    if outgoing.attempts > 0 {
        let newest = forge.newest(&verdict.commit, &verdict.context).await?;
        if newest.as_ref() == Some(verdict) {
            return Ok(());
        }
    }
    forge.publish(verdict).await
}
