//! Steps on the cluster itself and on its Nodes.

use trueup_core::desired::DesiredUnit;
use trueup_core::plan::{Context, taints_after};
use trueup_model::facts::cluster::ClusterOwner;
use trueup_model::port::{ClusterError, Force};
use trueup_model::step::{Action, Outcome, Step, Target};

use super::Performer;

/// Perform one step.
pub(super) async fn perform(
    performer: &Performer,
    desired: &DesiredUnit,
    context: &Context,
    step: &Step,
) -> Outcome {
    let store = performer.store.as_ref();
    let entry = super::super::journal::begin(store, step, context, None);
    let outcome = one(performer, desired, context, step).await;
    super::super::journal::end(store, entry, &outcome);
    outcome
}

async fn one(
    performer: &Performer,
    desired: &DesiredUnit,
    context: &Context,
    step: &Step,
) -> Outcome {
    let ports = desired
        .cluster
        .as_ref()
        .and_then(|cluster| performer.world.cluster(&cluster.name));
    let Some(ports) = ports else {
        return Outcome::Failed("the cluster is not declared any more".to_owned());
    };
    let result = match (&step.action, &step.target) {
        (Action::ClaimCluster, _) => {
            let owner = ClusterOwner {
                claim: context.claim.clone(),
                // The driver keeps the id of a record that stands already.
                id: step.id.short().to_owned(),
            };
            ports.api.write_owner(&owner, context.take_over).await
        }
        (Action::SetLabels { labels, force }, Target::Node(name)) => {
            let force = if *force { Force::Yes } else { Force::No };
            ports.api.set_labels(name, labels, force).await
        }
        (
            Action::SetTaints {
                before,
                wanted,
                remove,
            },
            Target::Node(name),
        ) => {
            let (after, record) = taints_after(before, wanted, remove);
            ports.api.set_taints(name, before, &after, &record).await
        }
        _ => return Outcome::Failed("this step is not one of a cluster".to_owned()),
    };
    outcome(result)
}

/// A lost reply is an unknown outcome, every other error a failure.
pub(super) fn outcome(result: Result<(), ClusterError>) -> Outcome {
    match result {
        Ok(()) => Outcome::Done,
        Err(error @ ClusterError::Lost { .. }) => Outcome::Unknown(error.to_string()),
        Err(error) => Outcome::Failed(error.to_string()),
    }
}
