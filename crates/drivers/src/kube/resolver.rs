//! Asks by name for what the watches cannot tell: objects that left a selector, and
//! objects of an inventory that no watch shows. Until it has, nothing is said of
//! them. What turns out to have lost its label is then watched by name.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::answer::Status;
use super::cache::{Lookup, Subject};
use super::caller::Call;
use super::feed;
use super::hub::Hub;
use super::resource::{NoResource, path_of};

/// Pause before what could not be asked is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// Lone objects that are watched by name at most; each costs a connection. Those
/// beyond are asked for again with each round.
const STRAYS_MAX: usize = 64;
/// Pause between rounds for lone objects beyond the watched ones.
const STRAYS_PAUSE: Duration = Duration::from_secs(15);

/// Start the resolver of a hub, once.
pub(crate) fn spawn_once(hub: &Arc<Hub>) {
    if hub.take_resolver() {
        let hub = Arc::clone(hub);
        tokio::spawn(async move {
            let stop = hub.stop.clone();
            stop.run_until_cancelled(run(hub)).await;
        });
    }
}

async fn run(hub: Arc<Hub>) {
    loop {
        let lookups = hub.read().cache.lookups();
        let mut failed = false;
        for lookup in lookups {
            failed |= !resolve(&hub, &lookup).await;
        }
        if !failed {
            hub.change(|state| {
                if !state.unresolved.is_empty() {
                    state.unresolved.clear();
                    state.cache.change += 1;
                }
            });
        }
        let unwatched = watch_strays(&hub);
        if failed {
            tokio::time::sleep(ASK_AGAIN).await;
        } else if unwatched.is_empty() {
            hub.look_up.notified().await;
        } else {
            // Whether woken or timed out, the next round begins.
            let _ended = tokio::time::timeout(STRAYS_PAUSE, hub.look_up.notified()).await;
            for object in unwatched {
                let lookup = Lookup { object, uid: None };
                resolve(&hub, &lookup).await;
            }
        }
    }
}

/// Watch each lone object by name; those that are too many are returned.
fn watch_strays(hub: &Arc<Hub>) -> Vec<trueup_model::facts::object::ObjectRef> {
    let mut strays = hub.read().cache.strays();
    let rest = strays.split_off(strays.len().min(STRAYS_MAX));
    for object in strays {
        feed::spawn(hub, Subject::Stray(object));
    }
    rest
}

/// Ask for one object; false if there was no answer.
async fn resolve(hub: &Hub, lookup: &Lookup) -> bool {
    let object = &lookup.object;
    let why = match hub
        .resources
        .find(&hub.caller, &object.api_version, &object.kind)
        .await
    {
        Ok(resource) => match hub
            .caller
            .call(&Call::get(path_of(&resource, object)))
            .await
        {
            Ok(reply) if reply.code == 404 => {
                hub.change(|state| state.cache.resolved(lookup, None));
                return true;
            }
            Ok(reply) if reply.code == 200 => match serde_json::from_slice::<Value>(&reply.body) {
                Ok(live) => {
                    hub.change(|state| state.cache.resolved(lookup, Some(live)));
                    return true;
                }
                Err(error) => error.to_string(),
            },
            Ok(reply) => format!("the API server answers {}", Status::of(&reply).code),
            Err(fault) => fault.why().to_owned(),
        },
        Err(NoResource::NotThere(_)) => {
            hub.change(|state| state.cache.resolved(lookup, None));
            return true;
        }
        Err(NoResource::Fault(fault)) => fault.why().to_owned(),
        Err(NoResource::Status(status)) => format!("the API server answers {}", status.code),
    };
    hub.change(|state| {
        let key = format!("{} {}", object.api_version, object.kind);
        let why = format!("{object} could not be asked for by name: {why}");
        state.unresolved.insert(key, why);
    });
    false
}
