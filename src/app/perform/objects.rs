//! Steps on the objects of one Application. The inventory is written before the
//! creates and again after them, so that a crash between the two orphans nothing.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt as _;
use futures::stream;
use trueup_core::desired::{DesiredApp, DesiredUnit};
use trueup_core::drift::Baseline;
use trueup_core::plan::Context;
use trueup_model::facts::cluster::{ClusterFacts, Deletion, Inventory, InventoryEntry};
use trueup_model::facts::object::{Answer, FIELD_MANAGER, ObjectRef};
use trueup_model::id::{AppName, ClusterName};
use trueup_model::port::{ApplyRefusal, ClusterApi, Force};
use trueup_model::step::{Action, Outcome, Step};

use super::node::outcome;
use super::{Performer, Told, tell};
use crate::app::compare::{key, outgoing, record, unmarked};
use crate::app::journal;

/// Applies at the same time, per Application.
const APPLIES_MAX: usize = 8;

/// Entries that are asked about in one go, beside the work itself.
const FORGOTTEN_MAX: usize = 20;

type Batch = Vec<(ObjectRef, Step)>;

/// Perform the steps of one Application.
pub(super) async fn perform(
    performer: &Performer,
    desired: &DesiredUnit,
    context: &Context,
    app: AppName,
    steps: Batch,
    told: &Told,
) {
    let fail = |steps: Batch, why: &str| {
        for (_, step) in steps {
            tell(told, &step, Outcome::Failed(why.to_owned()));
        }
    };
    let ports = desired
        .cluster
        .as_ref()
        .and_then(|cluster| performer.world.cluster(&cluster.name));
    let (Some(ports), Some(wanted)) = (ports, desired.apps.get(&app)) else {
        fail(steps, "the Application is not declared any more");
        return;
    };
    let facts = match ports.api.facts(&[]).await {
        Ok(facts) => facts,
        Err(error) => return fail(steps, &error.to_string()),
    };
    let Some(mark) = facts.owner.as_ref().map(|owner| owner.id.clone()) else {
        return fail(steps, "the cluster has no ownership record yet");
    };
    let mut work = Work {
        performer,
        cluster: ports.cluster.clone(),
        api: ports.api.as_ref(),
        app: wanted,
        mark,
        inventory: facts.inventories.get(&app).cloned().unwrap_or_default(),
        context,
    };
    let (deletes, applies): (Batch, Batch) = steps
        .into_iter()
        .partition(|(_, step)| matches!(step.action, Action::DeleteObject { .. }));
    if !applies.is_empty() {
        if let Err(why) = work.announce(&applies, &facts).await {
            fail(applies, &why);
        } else {
            work.apply(applies, told).await;
        }
    }
    if !deletes.is_empty() {
        work.delete(deletes, told).await;
    }
}

struct Work<'a> {
    performer: &'a Performer,
    cluster: ClusterName,
    api: &'a dyn ClusterApi,
    app: &'a DesiredApp,
    mark: String,
    inventory: Inventory,
    context: &'a Context,
}

impl Work<'_> {
    /// Entries of everything that is about to be applied, before it is.
    async fn announce(&mut self, steps: &Batch, facts: &ClusterFacts) -> Result<(), String> {
        self.forget_gone(facts).await;
        let known: BTreeSet<_> = self
            .inventory
            .entries
            .iter()
            .map(|entry| entry.object.clone())
            .collect();
        let mut new = false;
        for (object, step) in steps {
            if known.iter().any(|other| other.key() == object.key()) {
                continue;
            }
            new = true;
            self.inventory.entries.push(InventoryEntry {
                object: object.clone(),
                uid: None,
                adopted: matches!(step.action, Action::AdoptObject { .. })
                    || !matches!(step.action, Action::ApplyObject { create: true, .. })
                        && facts.objects.contains_key(object),
            });
        }
        self.inventory.commit = Some(self.context.commit.clone());
        if new { self.write().await } else { Ok(()) }
    }

    async fn write(&self) -> Result<(), String> {
        self.api
            .write_inventory(&self.app.name, &self.inventory)
            .await
            .map_err(|error| format!("the inventory: {error}"))
    }

    async fn apply(&mut self, steps: Batch, told: &Told) {
        let adopted: BTreeSet<ObjectRef> = self
            .inventory
            .entries
            .iter()
            .filter(|entry| entry.adopted)
            .map(|entry| entry.object.clone())
            .collect();
        let this = &*self;
        let adopted = &adopted;
        let results: Vec<(ObjectRef, Step, Result<Answer, Outcome>)> = stream::iter(steps)
            .map(|(object, step)| async move {
                let adopted = adopted.contains(&object);
                let result = this.one(&object, &step, adopted).await;
                (object, step, result)
            })
            .buffer_unordered(APPLIES_MAX)
            .collect()
            .await;
        let mut uids = BTreeMap::new();
        let mut outcomes = Vec::new();
        for (object, step, result) in results {
            match result {
                Ok(answer) => {
                    uids.insert(object, answer.uid);
                    outcomes.push((step, Outcome::Done));
                }
                Err(outcome) => outcomes.push((step, outcome)),
            }
        }
        let mut changed = false;
        for entry in &mut self.inventory.entries {
            if let Some(uid) = uids.get(&entry.object)
                && entry.uid.as_ref() != Some(uid)
            {
                entry.uid = Some(uid.clone());
                changed = true;
            }
        }
        // A lost write here is found by the next look: the entry stands without a
        // UID, and the object carries our mark.
        if changed && let Err(why) = self.write().await {
            tracing::warn!(app = %self.app.name, why, "the inventory lacks UIDs");
        }
        for (step, outcome) in outcomes {
            tell(told, &step, outcome);
        }
    }

    async fn one(&self, object: &ObjectRef, step: &Step, adopted: bool) -> Result<Answer, Outcome> {
        let Some(wanted) = self.app.objects.get(object) else {
            return Err(Outcome::Failed(
                "the object is not declared any more".to_owned(),
            ));
        };
        let force = match &step.action {
            Action::ApplyObject { force: true, .. } => Force::Yes,
            // A grant names the fields that are taken over.
            Action::AdoptObject { changes } if !changes.is_empty() => Force::Yes,
            _ => Force::No,
        };
        let store = self.performer.store.as_ref();
        let entry = journal::begin(store, step, self.context, None);
        // Equal content is taken over by our records alone: the server says what it
        // would answer, and nothing is written to the object.
        let by_record =
            matches!(&step.action, Action::AdoptObject { changes } if changes.is_empty());
        let json = if by_record {
            unmarked(wanted)
        } else {
            outgoing(wanted, adopted, &self.mark)
        };
        let result = self.api.apply(&json, force, by_record).await;
        let result = match result {
            Ok(answer) if by_record && answer.created => {
                Err(Outcome::Failed("it is gone".to_owned()))
            }
            Ok(answer) => {
                let masking = self.performer.vault.masking(wanted.secret);
                let baseline = Baseline::from_answer(&answer.json, FIELD_MANAGER, masking);
                match record(store, &self.cluster, object, &wanted.digest, &baseline) {
                    Ok(()) => Ok(answer),
                    Err(why) => Err(Outcome::Failed(format!("the baseline: {why}"))),
                }
            }
            Err(ApplyRefusal::Unknown(why)) => Err(Outcome::Unknown(why)),
            Err(refusal) => Err(Outcome::Failed(refusal.to_string())),
        };
        journal::end(
            store,
            entry,
            result.as_ref().err().unwrap_or(&Outcome::Done),
        );
        result
    }

    /// A finalizer may keep what was deleted for long: its entry stands until it is
    /// really gone, and a status says so.
    async fn is_gone(&self, object: &ObjectRef, uid: &str) -> bool {
        match self.api.get(object).await {
            Ok(live) => live.is_none_or(|live| live.uid != uid),
            Err(_) => false,
        }
    }

    /// Entries of what was deleted and took its time to go.
    async fn forget_gone(&mut self, facts: &ClusterFacts) {
        let there = self.app.objects.keys().chain(facts.objects.keys());
        let there: BTreeSet<_> = there.map(ObjectRef::key).collect();
        let stale: Vec<ObjectRef> = self
            .inventory
            .entries
            .iter()
            .filter(|entry| !there.contains(&entry.object.key()))
            .map(|entry| entry.object.clone())
            .take(FORGOTTEN_MAX)
            .collect();
        for object in stale {
            // The watch may be late: what is not asked for is not known to be gone.
            if let Ok(None) = self.api.get(&object).await {
                self.inventory
                    .entries
                    .retain(|entry| entry.object != object);
            }
        }
    }

    /// The count is written before the first deletion: a crash in between counts too
    /// many, never too few.
    async fn delete(&mut self, steps: Batch, told: &Told) {
        self.inventory.deletions.push(Deletion {
            commit: self.context.commit.clone(),
            at_s: self.context.now_s,
            count: steps.len(),
        });
        if let Err(why) = self.write().await {
            for (_, step) in steps {
                tell(told, &step, Outcome::Failed(why.clone()));
            }
            return;
        }
        let mut gone = Vec::new();
        let store = self.performer.store.as_ref();
        for (object, step) in steps {
            let Action::DeleteObject { uid } = &step.action else {
                continue;
            };
            let entry = journal::begin(store, &step, self.context, None);
            let outcome = outcome(self.api.delete(&object, uid).await);
            journal::end(store, entry, &outcome);
            if outcome == Outcome::Done {
                if let Err(error) = store.remove_baseline(&self.cluster, &key(&object)) {
                    tracing::warn!(%object, %error, "its baseline stays");
                }
                if self.is_gone(&object, uid).await {
                    gone.push(object);
                }
            }
            tell(told, &step, outcome);
        }
        self.inventory
            .entries
            .retain(|entry| !gone.contains(&entry.object));
        if let Err(why) = self.write().await {
            tracing::warn!(app = %self.app.name, why, "the inventory names deleted objects");
        }
    }
}
