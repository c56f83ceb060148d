//! Steps of Applications: objects applied, corrected, adopted and pruned.

use std::collections::BTreeSet;

use trueup_model::facts::Known;
use trueup_model::facts::cluster::{ClusterFacts, InventoryEntry};
use trueup_model::facts::object::{CREATION_MARK, LiveObject, ObjectRef};
use trueup_model::step::{Action, Cause, Disruption, Target};

use super::{Context, WaitKind};
use crate::desired::{DesiredApp, DesiredObject, DesiredUnit, stage};
use crate::health::Health;
use crate::observed::{Compared, SeenCluster, SeenUnit};
use crate::round::{Draft, Proposal};

/// Plan every Application of the cluster.
pub(crate) fn plan(draft: &mut Draft, desired: &DesiredUnit, seen: &SeenUnit, context: &Context) {
    let Some(cluster) = &seen.cluster else {
        return;
    };
    let Known::Known(api) = &cluster.api else {
        return;
    };
    let ours = api.owner.as_ref().is_none_or(|owner| {
        let held_by_us = owner.claim.holder == context.claim.holder;
        owner.claim.epoch <= context.claim.epoch && (held_by_us || context.take_over)
    });
    if !ours {
        return;
    }
    for app in desired.apps.values() {
        if app.removed {
            remove(draft, app, api);
        } else {
            for (origin, why) in &app.broken {
                draft.wait(
                    app.name.as_str(),
                    WaitKind::Broken,
                    format!("{origin}: {why}"),
                );
            }
            for (object, wanted) in &app.objects {
                apply(draft, app, (object, wanted), cluster);
            }
            prune(draft, app, api);
        }
    }
    orphaned(draft, desired, api);
}

fn entry<'a>(
    app: &DesiredApp,
    api: &'a ClusterFacts,
    object: &ObjectRef,
) -> Option<&'a InventoryEntry> {
    api.inventories
        .get(&app.name)?
        .entries
        .iter()
        .find(|entry| entry.object.key() == object.key())
}

fn apply(
    draft: &mut Draft,
    app: &DesiredApp,
    (object, wanted): (&ObjectRef, &DesiredObject),
    cluster: &SeenCluster,
) {
    let key = (app.name.clone(), object.clone());
    let subject = format!("{}: {object}", app.name);
    let known = match &cluster.api {
        Known::Known(api) => entry(app, api, object).is_some_and(|entry| entry.uid.is_some()),
        Known::Unknown(_) => false,
    };
    let unknown = Compared::Unknown("it was not compared".to_owned());
    match cluster.compared.get(&key).unwrap_or(&unknown) {
        Compared::Same => health(draft, &subject, cluster.health.get(&key)),
        Compared::Drifted(fields) => write(
            draft,
            app,
            (object, wanted),
            Write {
                force: true,
                create: false,
                cause: Cause::Drift,
                confirm: false,
                changes: fields.clone(),
                why: format!("somebody changed {}", fields.join(", ")),
            },
        ),
        Compared::Missing => write(
            draft,
            app,
            (object, wanted),
            Write {
                force: false,
                create: true,
                cause: if known { Cause::Drift } else { Cause::Commit },
                confirm: false,
                changes: Vec::new(),
                why: if known {
                    "somebody deleted it".to_owned()
                } else {
                    "it does not exist".to_owned()
                },
            },
        ),
        Compared::Changed {
            fields, ours: true, ..
        } if fields.is_empty() => {
            health(draft, &subject, cluster.health.get(&key));
        }
        Compared::Changed {
            fields,
            ours: true,
            confirmed,
        } => {
            write(
                draft,
                app,
                (object, wanted),
                Write {
                    force: false,
                    create: false,
                    cause: Cause::Commit,
                    confirm: false,
                    changes: fields.clone(),
                    why: changed(fields, *confirmed),
                },
            );
        }
        Compared::Changed {
            fields,
            ours: false,
            confirmed,
        } => {
            adopt(draft, app, (object, wanted), fields, *confirmed);
        }
        Compared::Conflict(why) => write(
            draft,
            app,
            (object, wanted),
            Write {
                force: true,
                create: false,
                cause: Cause::Commit,
                confirm: true,
                changes: Vec::new(),
                why: why.clone(),
            },
        ),
        Compared::Invalid(why) => {
            draft.wait(
                subject,
                WaitKind::Broken,
                format!("{}: {why}", wanted.origin),
            );
        }
        Compared::NotYet(why) => {
            let coming = app.objects.keys().any(|other| stage(other) < stage(object));
            let kind = if coming {
                WaitKind::Progress
            } else {
                WaitKind::Broken
            };
            draft.wait(subject, kind, why.clone());
        }
        Compared::Unknown(why) => draft.wait(subject, WaitKind::Unknown, why.clone()),
    }
}

fn changed(fields: &[String], confirmed: bool) -> String {
    let suffix = if confirmed {
        ""
    } else {
        " (not confirmed by the server)"
    };
    format!("the declaration changes {}{suffix}", fields.join(", "))
}

/// The parts of an apply.
struct Write {
    force: bool,
    create: bool,
    cause: Cause,
    confirm: bool,
    changes: Vec<String>,
    why: String,
}

fn write(
    draft: &mut Draft,
    app: &DesiredApp,
    (object, wanted): (&ObjectRef, &DesiredObject),
    parts: Write,
) {
    draft.step(
        Target::Object(app.name.clone(), object.clone()),
        Action::ApplyObject {
            force: parts.force,
            create: parts.create,
            changes: parts.changes,
        },
        Proposal {
            desired: &wanted.digest.0,
            class: Disruption::None,
            cause: parts.cause,
            confirm: parts.confirm,
            at: Some(&wanted.origin),
            why: parts.why,
        },
    );
}

fn adopt(
    draft: &mut Draft,
    app: &DesiredApp,
    (object, wanted): (&ObjectRef, &DesiredObject),
    fields: &[String],
    confirmed: bool,
) {
    draft.step(
        Target::Object(app.name.clone(), object.clone()),
        Action::AdoptObject {
            changes: fields.to_vec(),
        },
        Proposal {
            desired: &wanted.digest.0,
            class: Disruption::None,
            cause: Cause::Commit,
            confirm: !fields.is_empty(),
            at: Some(&wanted.origin),
            why: if fields.is_empty() {
                "it exists with the declared content".to_owned()
            } else {
                format!("it exists and is not ours; {}", changed(fields, confirmed))
            },
        },
    );
}

fn health(draft: &mut Draft, subject: &str, health: Option<&Health>) {
    match health {
        Some(Health::Current) | None => {}
        Some(Health::InProgress(why)) => draft.wait(subject, WaitKind::Progress, why.clone()),
        Some(Health::Failed(why)) => draft.wait(subject, WaitKind::Broken, why.clone()),
        Some(Health::Terminating) => draft.wait(subject, WaitKind::Progress, "it is being deleted"),
        Some(Health::Unknown(why)) => draft.wait(subject, WaitKind::Unknown, why.clone()),
    }
}

/// Which UID an entry may be deleted under: the recorded one, or, where the create
/// was recorded and its outcome was not, that of an object with our creation mark.
fn prunable<'a>(entry: &'a InventoryEntry, live: &'a LiveObject, id: &str) -> Option<&'a str> {
    match &entry.uid {
        Some(uid) => (*uid == live.uid).then_some(uid.as_str()),
        None => {
            let mark = live
                .json
                .pointer("/metadata/annotations")
                .and_then(|annotations| annotations.get(CREATION_MARK))
                .and_then(serde_json::Value::as_str);
            (mark == Some(id)).then_some(live.uid.as_str())
        }
    }
}

fn prune(draft: &mut Draft, app: &DesiredApp, api: &ClusterFacts) {
    let declared: BTreeSet<_> = app.objects.keys().map(ObjectRef::key).collect();
    let gone = |entry: &&InventoryEntry| !declared.contains(&entry.object.key());
    if !app.broken.is_empty() || !app.prune {
        let inventory = api.inventories.get(&app.name);
        let count = inventory.map_or(0, |inventory| inventory.entries.iter().filter(gone).count());
        if count > 0 {
            let why = if app.prune {
                "not pruned while manifests are broken, since what they held is not known"
            } else {
                "not pruned: spec.prune is false"
            };
            draft.wait(
                app.name.as_str(),
                WaitKind::Report,
                format!("{count} objects are no longer declared; {why}"),
            );
        }
        return;
    }
    delete(
        draft,
        app,
        api,
        gone,
        "no manifest declares it any more",
        false,
    );
}

fn remove(draft: &mut Draft, app: &DesiredApp, api: &ClusterFacts) {
    delete(
        draft,
        app,
        api,
        |_| true,
        "the Application's state is removed",
        true,
    );
}

fn delete(
    draft: &mut Draft,
    app: &DesiredApp,
    api: &ClusterFacts,
    which: impl Fn(&&InventoryEntry) -> bool,
    why: &str,
    confirm: bool,
) {
    let (Some(inventory), Some(owner)) = (api.inventories.get(&app.name), &api.owner) else {
        return;
    };
    let mut entries: Vec<&InventoryEntry> = inventory.entries.iter().filter(which).collect();
    // What others stand on goes last.
    entries.sort_by_key(|entry| std::cmp::Reverse(stage(&entry.object)));
    for entry in entries {
        let Some(live) = api
            .objects
            .values()
            .find(|live| live.object.key() == entry.object.key())
        else {
            continue;
        };
        let Some(uid) = prunable(entry, live, &owner.id) else {
            continue;
        };
        let terminating = live.json.pointer("/metadata/deletionTimestamp").is_some();
        if terminating {
            draft.wait(
                format!("{}: {}", app.name, entry.object),
                WaitKind::Progress,
                "it is being deleted",
            );
            continue;
        }
        let namespace = entry.object.kind == "Namespace" && entry.object.group().is_empty();
        draft.step(
            Target::Object(app.name.clone(), entry.object.clone()),
            Action::DeleteObject {
                uid: uid.to_owned(),
            },
            Proposal {
                desired: uid,
                class: Disruption::Destructive,
                cause: Cause::Commit,
                confirm: confirm || entry.adopted || namespace,
                at: Some(&app.origin),
                why: why.to_owned(),
            },
        );
    }
}

/// Inventories of Applications that no document names: a vanished document prunes
/// nothing and is told.
fn orphaned(draft: &mut Draft, desired: &DesiredUnit, api: &ClusterFacts) {
    for (name, inventory) in &api.inventories {
        if desired.apps.contains_key(name) {
            continue;
        }
        let alive = |entry: &&InventoryEntry| {
            let mut live = api.objects.values();
            live.any(|live| live.object.key() == entry.object.key())
        };
        let count = inventory.entries.iter().filter(alive).count();
        if count > 0 {
            draft.wait(
                name.as_str(),
                WaitKind::Report,
                format!(
                    "its document is gone and its {count} objects stay; to delete them, declare it with state: removed"
                ),
            );
        }
    }
}
