//! Waiting for a condition: the only place of the bed that sleeps, and only between two looks.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Between two looks. Short, because a machine is back from a power cut in 200 ms.
const LOOK_INTERVAL_MS: u64 = 20;

/// Looks until `look` yields a value. `what` completes "waited in vain for ...".
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(value) = look() {
            return Ok(value);
        }
        if begun.elapsed() > limit {
            bail!("waited {} s in vain for {what}", limit.as_secs());
        }
        thread::sleep(Duration::from_millis(LOOK_INTERVAL_MS));
    }
}

/// [`wait_for`] for a condition without a value.
pub fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> Result<()> {
    wait_for(what, limit, || holds().then_some(()))
}
