//! The executor: it performs steps as they are and chooses nothing.

mod machine;
mod node;
mod objects;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use trueup_core::desired::DesiredUnit;
use trueup_model::facts::object::ObjectRef;
use trueup_model::id::{AppName, Digest, NodeName};
use trueup_model::port::store::Store;
use trueup_model::step::{Action, Outcome, Step, Target};

use super::vault::Vault;
use super::world::World;
use trueup_core::plan::Context;

/// What the executor needs beside the steps.
#[derive(Debug, Clone)]
pub(crate) struct Performer {
    /// Connections.
    pub(crate) world: Arc<World>,
    /// Decrypted values.
    pub(crate) vault: Arc<Vault>,
    /// Journal and baselines.
    pub(crate) store: Arc<dyn Store>,
}

/// A step's end, told as it happens.
pub(crate) type Told = tokio::sync::mpsc::UnboundedSender<(Digest, Outcome)>;

impl Performer {
    /// Perform the steps of one round: those of one machine in their order, the
    /// others at the same time. Each end is told.
    pub(crate) async fn perform(
        &self,
        desired: &DesiredUnit,
        context: &Context,
        steps: Vec<Step>,
        told: &Told,
    ) {
        #[cfg(debug_assertions)]
        forced_panic(&(self, desired, context, &steps));
        let mut machines: BTreeMap<NodeName, Vec<Step>> = BTreeMap::new();
        let mut objects: BTreeMap<AppName, Vec<(ObjectRef, Step)>> = BTreeMap::new();
        let mut cluster = Vec::new();
        for step in steps {
            match step.target.clone() {
                Target::Machine(name) => machines.entry(name).or_default().push(step),
                Target::Object(app, object) => objects.entry(app).or_default().push((object, step)),
                Target::Node(_) | Target::Cluster(_) => cluster.push(step),
            }
        }
        let on_machines = machines
            .into_iter()
            .map(|(name, steps)| machine::perform(self, desired, context, name, steps, told));
        let on_cluster = async {
            // The cluster's ownership record stands before anything else in it.
            cluster.sort_by_key(|step| !matches!(step.action, Action::ClaimCluster));
            for step in cluster {
                let outcome = node::perform(self, desired, context, &step).await;
                tell(told, &step, outcome);
            }
            let apps = objects
                .into_iter()
                .map(|(app, steps)| objects::perform(self, desired, context, app, steps, told));
            join_all(apps).await;
        };
        futures::future::join(join_all(on_machines), on_cluster).await;
    }
}

/// Panics where a test asks for it, with all that is at hand in its message: what a
/// panic shows must hold no secret. Debug builds only.
#[cfg(debug_assertions)]
#[expect(clippy::panic, reason = "what it is for")]
fn forced_panic(at_hand: &dyn std::fmt::Debug) {
    if std::env::var_os("TRUEUP_FORCED_PANIC").is_some() {
        panic!("a forced panic: {at_hand:?}");
    }
}

/// Tell a step's end. Nobody listening means the run is over, which is no error.
pub(crate) fn tell(told: &Told, step: &Step, outcome: Outcome) {
    match &outcome {
        Outcome::Done => tracing::info!(
            step = step.id.short(),
            target = %step.target,
            verb = step.action.verb(),
            subject = step.action.subject(),
            "done"
        ),
        Outcome::Failed(why) | Outcome::Unknown(why) | Outcome::Fenced(why) => tracing::warn!(
            step = step.id.short(),
            target = %step.target,
            verb = step.action.verb(),
            subject = step.action.subject(),
            why,
            "not done"
        ),
    }
    let _ended = told.send((step.id.clone(), outcome));
}
