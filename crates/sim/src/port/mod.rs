//! The ports of the model on a simulated fleet.

mod api;
mod etcd;
mod records;
mod shell;

use std::sync::Arc;

use async_trait::async_trait;

use crate::fleet::SimFleet;

pub use api::SimApi;
pub use etcd::SimEtcd;
pub use shell::SimShell;

/// Who keeps the fleet: it hands in the time, and keeps what comes out.
#[async_trait]
pub trait Keeper: Send + Sync + std::fmt::Debug {
    /// Let `act` read and change the fleet at the given time (milliseconds since 1970)
    /// while nobody else does, and keep the result.
    ///
    /// # Errors
    /// The fleet cannot be read or kept: why.
    fn visit(&self, act: &mut dyn FnMut(&mut SimFleet, i64)) -> Result<(), String>;

    /// Let real time pass, in milliseconds: the fleet's own goes with it.
    async fn pause(&self, ms: u64);
}

/// Visit with a result.
fn visit<T>(
    keeper: &Arc<dyn Keeper>,
    act: impl FnOnce(&mut SimFleet, i64) -> T,
) -> Result<T, String> {
    let mut act = Some(act);
    let mut result = None;
    keeper.visit(&mut |fleet, now_ms| {
        fleet.advance(now_ms);
        if let Some(act) = act.take() {
            result = Some(act(fleet, now_ms));
        }
    })?;
    result.ok_or_else(|| "the simulated fleet was not visited".to_owned())
}
