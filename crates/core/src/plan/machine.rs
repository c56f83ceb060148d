//! Steps of one machine that concern neither k3s nor the cluster: ownership, files,
//! kernel settings, units.

use std::collections::BTreeMap;

use trueup_model::facts::machine::{FileFact, MachineFacts, OwnerRecord, UnitFact};
use trueup_model::id::Digest;
use trueup_model::kinds::UnitState;
use trueup_model::origin::Origin;
use trueup_model::step::{Action, Cause, Disruption, FileSpec, Target};

use super::{Context, WaitKind};
use crate::desired::{DesiredMachine, DesiredService};
use crate::paths;
use crate::round::{Draft, Proposal};

/// More files than this are taken off a machine only with a grant: a profile that was
/// dropped by mistake is the likelier reason.
const REMOVED_MAX: usize = 5;

/// Who a machine belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Ours.
    Ours,
    /// Nobody's, and nothing on it differs from what is declared.
    Blank,
    /// Nobody's, but alive: k3s, or other content at a declared path.
    Unmanaged(String),
    /// Another holder's.
    Foreign(String),
}

/// Plan a machine's own things.
pub(crate) fn plan(
    draft: &mut Draft,
    machine: &DesiredMachine,
    facts: &MachineFacts,
    context: &Context,
) {
    match standing(machine, facts, context) {
        Standing::Foreign(who) => {
            draft.wait(
                machine.name.as_str(),
                WaitKind::Broken,
                format!(
                    "it is held by {who}; to take it over: trueup claim --take-over {} --reason WHY",
                    draft.unit
                ),
            );
        }
        Standing::Unmanaged(why) => adopt(draft, machine, facts, &why),
        Standing::Blank => {
            claim(draft, machine, context);
            contents(draft, machine, facts, &OwnerRecord::default(), context);
        }
        Standing::Ours => {
            let record = facts.owner.clone().unwrap_or_default();
            if record.claim.as_ref() != Some(&context.claim) {
                // A new epoch of ours, or a take-over that was asked for. Every job
                // carries the claim; a step of its own makes it visible.
                claim(draft, machine, context);
            }
            contents(draft, machine, facts, &record, context);
        }
    }
}

/// Who this machine belongs to.
pub(crate) fn standing(
    machine: &DesiredMachine,
    facts: &MachineFacts,
    context: &Context,
) -> Standing {
    match facts
        .owner
        .as_ref()
        .and_then(|record| record.claim.as_ref())
    {
        Some(claim) if claim.holder == context.claim.holder => {
            if claim.epoch > context.claim.epoch {
                Standing::Foreign(format!("{claim}, which is newer than ours"))
            } else {
                Standing::Ours
            }
        }
        Some(claim) if context.take_over && claim.epoch <= context.claim.epoch => Standing::Ours,
        Some(claim) => Standing::Foreign(claim.to_string()),
        None => match life(machine, facts) {
            None => Standing::Blank,
            Some(why) => Standing::Unmanaged(why),
        },
    }
}

/// A sign that somebody else uses this machine for what we declare.
fn life(machine: &DesiredMachine, facts: &MachineFacts) -> Option<String> {
    if facts.k3s.binary.is_some() {
        return Some("k3s is installed on it".to_owned());
    }
    for unit in paths::UNITS {
        if facts
            .units
            .get(unit)
            .is_some_and(|unit| unit.load == "loaded")
        {
            return Some(format!("it has a unit {unit}"));
        }
    }
    machine
        .files
        .values()
        .find_map(|(file, _)| match facts.files.get(&file.path)? {
            FileFact::Absent => None,
            FileFact::Other(kind) => Some(format!("{} is a {kind}", file.path)),
            FileFact::Present { sha256, .. } if *sha256 == file.sha256 => None,
            FileFact::Present { .. } => Some(format!("{} has other content", file.path)),
        })
}

fn claim(draft: &mut Draft, machine: &DesiredMachine, context: &Context) {
    draft.step(
        Target::Machine(machine.name.clone()),
        Action::ClaimMachine,
        Proposal {
            desired: &context.claim.to_string(),
            class: Disruption::None,
            cause: Cause::Commit,
            confirm: false,
            at: Some(&machine.origin),
            why: format!("the machine is to be held by {}", context.claim),
        },
    );
}

fn adopt(draft: &mut Draft, machine: &DesiredMachine, facts: &MachineFacts, why: &str) {
    let mut equal = Vec::new();
    for (file, origin) in machine.files.values() {
        match facts.files.get(&file.path) {
            Some(FileFact::Present { sha256, .. }) if *sha256 == file.sha256 => {
                equal.push(file.path.clone());
            }
            Some(FileFact::Present { .. }) => draft.wait(
                format!("{}:{}", machine.name, file.path),
                WaitKind::Broken,
                format!("its content differs from {origin} and was not written by trueup"),
            ),
            Some(FileFact::Absent | FileFact::Other(_)) | None => {}
        }
    }
    draft.step(
        Target::Machine(machine.name.clone()),
        Action::AdoptMachine {
            equal: equal.clone(),
        },
        Proposal {
            desired: &equal.join("\n"),
            class: Disruption::None,
            cause: Cause::Commit,
            confirm: true,
            at: Some(&machine.origin),
            why: format!("it has no ownership record, and {why}"),
        },
    );
}

fn contents(
    draft: &mut Draft,
    machine: &DesiredMachine,
    facts: &MachineFacts,
    record: &OwnerRecord,
    context: &Context,
) {
    for (origin, why) in &machine.broken {
        draft.wait(
            machine.name.as_str(),
            WaitKind::Broken,
            format!("{origin}: {why}"),
        );
    }
    let mut written = Vec::new();
    for (file, origin) in machine.files.values() {
        if write_file(draft, machine, facts, record, file, origin) {
            written.push(file.path.clone());
        }
    }
    let gone: Vec<&String> = record
        .files
        .keys()
        .filter(|path| {
            let declared = machine.files.contains_key(*path) || belongs_to_k3s(path);
            let there = !matches!(facts.files.get(*path), Some(FileFact::Absent) | None);
            // While a part of a profile cannot be read, what it declares is not known.
            !declared && there && machine.broken.is_empty()
        })
        .collect();
    for path in &gone {
        let adopted = record.adopted.contains(*path);
        let many = gone.len() > REMOVED_MAX;
        remove_file(draft, machine, path, (adopted, many));
    }
    sysctls(draft, machine, facts, context);
    for (name, service) in &machine.units {
        let fact = facts.units.get(name).cloned().unwrap_or_default();
        let changed = service
            .file
            .as_ref()
            .is_some_and(|path| written.contains(path));
        unit(draft, machine, (name, service), &fact, changed, context);
    }
}

/// Files that `plan::k3s` looks after.
fn belongs_to_k3s(path: &str) -> bool {
    path == paths::CONFIG_PATH
        || path == paths::TOKEN_PATH
        || path == paths::BINARY_PATH
        || paths::UNIT_PATHS.contains(&path)
}

/// What differs between a file and what it is to be; `None`: nothing.
pub(crate) fn difference(file: &FileSpec, fact: Option<&FileFact>) -> Option<String> {
    match fact {
        None => Some("it could not be read".to_owned()),
        Some(FileFact::Absent) => Some("it does not exist".to_owned()),
        Some(FileFact::Other(kind)) => Some(format!("it is a {kind}")),
        Some(FileFact::Present { sha256, .. }) if *sha256 != file.sha256 => {
            Some("its content differs".to_owned())
        }
        Some(FileFact::Present {
            mode, owner, group, ..
        }) => {
            let mut parts = Vec::new();
            if *mode != file.mode {
                parts.push(format!("its mode is {mode}, not {}", file.mode));
            }
            if *owner != file.owner || *group != file.group {
                parts.push(format!(
                    "it belongs to {owner}:{group}, not {}:{}",
                    file.owner, file.group
                ));
            }
            (!parts.is_empty()).then(|| parts.join(", "))
        }
    }
}

/// Drift, or a commit that asks for something new? The record knows what we wrote.
pub(crate) fn cause_of(file: &FileSpec, recorded: Option<&Digest>) -> Cause {
    if recorded == Some(&file.sha256) {
        Cause::Drift
    } else {
        Cause::Commit
    }
}

fn write_file(
    draft: &mut Draft,
    machine: &DesiredMachine,
    facts: &MachineFacts,
    record: &OwnerRecord,
    file: &FileSpec,
    origin: &Origin,
) -> bool {
    let target = Target::Machine(machine.name.clone());
    let fact = facts.files.get(&file.path);
    let recorded = record.files.get(&file.path);
    let Some(why) = difference(file, fact) else {
        if recorded != Some(&file.sha256) {
            draft.step(
                target,
                Action::AdoptFile { file: file.clone() },
                Proposal {
                    desired: &spec_text(file),
                    class: Disruption::None,
                    cause: Cause::Commit,
                    confirm: false,
                    at: Some(origin),
                    why: "it has the declared content already".to_owned(),
                },
            );
        }
        return false;
    };
    let foreign = recorded.is_none() && !matches!(fact, Some(FileFact::Absent));
    draft.step(
        target,
        Action::WriteFile {
            file: file.clone(),
            reload: file.path.starts_with("/etc/systemd/system/"),
        },
        Proposal {
            desired: &spec_text(file),
            class: Disruption::None,
            cause: cause_of(file, recorded),
            confirm: foreign,
            at: Some(origin),
            why: if foreign {
                format!("{why}, and trueup did not write it")
            } else {
                why
            },
        },
    );
    true
}

/// A file's desired state as text, for step ids. The content enters by its digest,
/// and only through the step's own digest, so that nothing of it can be read back.
pub(crate) fn spec_text(file: &FileSpec) -> String {
    format!(
        "{} {} {}:{} {}",
        file.path, file.mode, file.owner, file.group, file.sha256
    )
}

fn remove_file(
    draft: &mut Draft,
    machine: &DesiredMachine,
    path: &str,
    (adopted, many): (bool, bool),
) {
    draft.step(
        Target::Machine(machine.name.clone()),
        Action::RemoveFile {
            path: path.to_owned(),
        },
        Proposal {
            desired: path,
            class: Disruption::Destructive,
            cause: Cause::Commit,
            // What was there before us is somebody's.
            confirm: adopted || many,
            at: Some(&machine.origin),
            why: if adopted {
                "trueup adopted it, and no profile declares it any more".to_owned()
            } else {
                "trueup wrote it, and no profile declares it any more".to_owned()
            },
        },
    );
}

fn sysctls(draft: &mut Draft, machine: &DesiredMachine, facts: &MachineFacts, context: &Context) {
    let mut wrong = BTreeMap::new();
    let mut whys = Vec::new();
    let mut at = None;
    for (key, (value, origin)) in &machine.sysctls {
        let live = facts.sysctls.get(key);
        if live == Some(value) {
            continue;
        }
        match live {
            Some(live) => whys.push(format!("{key} is {live}, not {value}")),
            None => {
                draft.wait(
                    format!("{}:{key}", machine.name),
                    WaitKind::Broken,
                    format!("{origin}: this kernel has no {key}"),
                );
                continue;
            }
        }
        at.get_or_insert(origin);
        wrong.insert(key.clone(), value.clone());
    }
    if wrong.is_empty() {
        return;
    }
    draft.step(
        Target::Machine(machine.name.clone()),
        Action::SetSysctls {
            values: wrong.clone(),
        },
        Proposal {
            desired: &format!("{wrong:?}"),
            class: Disruption::None,
            cause: context.cause(),
            confirm: false,
            at,
            why: whys.join("; "),
        },
    );
}

/// A unit counts as started when it is active, and a oneshot also when it ended well.
fn runs(fact: &UnitFact) -> bool {
    fact.active == "active"
        || fact.active == "activating" && fact.kind != "oneshot"
        || fact.kind == "oneshot"
            && !fact.remains
            && fact.active == "inactive"
            && fact.started_s > 0
            && fact.result == "success"
}

fn unit(
    draft: &mut Draft,
    machine: &DesiredMachine,
    (name, service): (&str, &DesiredService),
    fact: &UnitFact,
    file_changed: bool,
    context: &Context,
) {
    // A unit without [Install] (static, generated) or an alias cannot be enabled: asking
    // for it is asking for nothing.
    let enabled = matches!(
        fact.file.as_str(),
        "enabled" | "enabled-runtime" | "static" | "alias" | "indirect" | "generated"
    ) && (service.enabled == Some(true) || fact.file.starts_with("enabled"));
    let enable = service.enabled.filter(|wanted| *wanted != enabled);
    let running = runs(fact);
    let run = match service.state {
        Some(UnitState::Started) if !running => Some(true),
        Some(UnitState::Stopped) if fact.active == "active" => Some(false),
        Some(UnitState::Started | UnitState::Stopped) | None => None,
    };
    let restart = file_changed && running && service.state == Some(UnitState::Started);
    let stale = fact.needs_reload && running && service.state == Some(UnitState::Started);
    if service.state == Some(UnitState::Started) && fact.active == "activating" {
        draft.wait(
            format!("{}:{name}", machine.name),
            WaitKind::Progress,
            format!(
                "it is activating ({}), {} restarts",
                fact.sub, fact.restarts
            ),
        );
    }
    if enable.is_none() && run.is_none() && !restart && !stale {
        return;
    }
    let mut whys = Vec::new();
    if enable.is_some() {
        whys.push(format!("it is {}", or_word(&fact.file, "not installed")));
    }
    if run.is_some() {
        whys.push(format!("it is {}", or_word(&fact.active, "not loaded")));
    }
    if restart || stale {
        whys.push("its file is newer than its process".to_owned());
    }
    draft.step(
        Target::Machine(machine.name.clone()),
        Action::SetUnit {
            unit: name.to_owned(),
            enable,
            run,
            restart: restart || stale,
        },
        Proposal {
            desired: &format!(
                "{name} {:?} {:?} {restart} {stale}",
                service.enabled, service.state
            ),
            class: if restart || stale || run == Some(false) {
                Disruption::Restart
            } else {
                Disruption::None
            },
            cause: if file_changed {
                Cause::Follow
            } else {
                context.cause()
            },
            confirm: false,
            at: Some(&service.origin),
            why: whys.join(", "),
        },
    );
}

fn or_word<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}
