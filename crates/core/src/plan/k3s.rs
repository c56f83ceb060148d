//! k3s on one machine: what its process is to be started with, and what it was
//! started with.

use std::collections::BTreeMap;

use serde_json::Value;
use trueup_model::facts::Known;
use trueup_model::facts::machine::{FileFact, MachineFacts, UnitFact};
use trueup_model::id::Digest;
use trueup_model::step::{Action, Cause, Content, Disruption, FileSpec, Target};

use super::WaitKind;
use super::by_hand::{self, Hand};
use super::machine::{cause_of, difference, spec_text};
use super::members::role;
use crate::desired::{DesiredCluster, DesiredMachine};
use crate::k3s::config::{self, Entry};
use crate::k3s::{effective, given, unit};
use crate::observed::SeenUnit;
use crate::paths;
use crate::round::{Draft, Proposal};

/// The files of k3s on a machine, as they are to be.
pub(super) struct Inputs {
    pub(super) binary: FileSpec,
    pub(super) config: FileSpec,
    pub(super) token: FileSpec,
    /// `None`: the unit is another installer's. It stays as it is, and its arguments
    /// are part of what k3s runs with.
    unit: Option<FileSpec>,
    pub(super) unit_name: &'static str,
    /// Digest over all of them.
    pub(super) digest: Digest,
}

impl Inputs {
    pub(super) fn files(&self) -> impl Iterator<Item = &FileSpec> {
        [&self.binary, &self.config, &self.token]
            .into_iter()
            .chain(&self.unit)
    }

    /// The unit was written by somebody else.
    pub(super) fn has_foreign_unit(&self) -> bool {
        self.unit.is_none()
    }
}

/// Plan k3s on one machine.
pub(crate) fn plan(
    draft: &mut Draft,
    (cluster, machine): (&DesiredCluster, &DesiredMachine),
    facts: &MachineFacts,
    entry: &Entry,
    seen: &SeenUnit,
) {
    let inputs = match inputs(cluster, machine, facts, entry, seen) {
        Ok(inputs) => inputs,
        Err(why) => {
            draft.wait(format!("{}:k3s", machine.name), WaitKind::Unknown, why);
            return;
        }
    };
    report_overrides(draft, machine, facts, entry, &inputs);
    let fact = facts
        .units
        .get(inputs.unit_name)
        .cloned()
        .unwrap_or_default();
    let started =
        fact.active == "active" || fact.active == "activating" || fact.active == "reloading";
    let hand = Hand {
        cluster,
        machine,
        facts,
        entry,
        inputs: &inputs,
    };
    if by_hand::applies(&inputs, facts) {
        if started {
            by_hand::running(draft, &hand, &fact);
        } else {
            by_hand::stopped(draft, &hand, &fact);
        }
    } else if started {
        running(draft, (cluster, machine), facts, &fact, &inputs);
    } else {
        stopped(draft, (cluster, machine), facts, (&fact, entry), &inputs);
    }
}

fn text_file(path: &str, mode: &str, text: String) -> FileSpec {
    FileSpec {
        path: path.to_owned(),
        mode: mode.to_owned(),
        owner: "root".to_owned(),
        group: "root".to_owned(),
        sha256: Digest::of(text.as_bytes()),
        content: Content::Text(text),
    }
}

fn inputs(
    cluster: &DesiredCluster,
    machine: &DesiredMachine,
    facts: &MachineFacts,
    entry: &Entry,
    seen: &SeenUnit,
) -> Result<Inputs, String> {
    let role = role(machine).ok_or("it has no role")?;
    let release = seen.cluster.as_ref().map(|cluster| &cluster.release);
    let sha256 = match release {
        Some(Known::Known(sha256)) => sha256.clone(),
        Some(Known::Unknown(why)) => return Err(format!("k3s {}: {why}", cluster.version)),
        None => return Err(format!("k3s {}: not looked for", cluster.version)),
    };
    let token = cluster.token.clone()?;
    let binary = FileSpec {
        path: paths::BINARY_PATH.to_owned(),
        mode: "0755".to_owned(),
        owner: "root".to_owned(),
        group: "root".to_owned(),
        sha256,
        content: Content::K3sBinary(cluster.version.clone()),
    };
    // 0600: options may name keys of an object store, and nobody but root reads it.
    let config = text_file(
        paths::CONFIG_PATH,
        "0600",
        config::text(&config::options(machine, entry)),
    );
    let unit_file = text_file(unit::path(role), "0644", unit::text(role));
    let mut inputs = Inputs {
        binary,
        config,
        token,
        unit: (!is_foreign(&unit_file, facts)).then_some(unit_file),
        unit_name: unit::name(role),
        digest: Digest(String::new()),
    };
    inputs.digest = Digest::of_parts(inputs.files().map(|file| file.sha256.0.as_bytes()));
    Ok(inputs)
}

/// A file that is there, is not as we would write it, and was not written by us.
fn is_foreign(file: &FileSpec, facts: &MachineFacts) -> bool {
    let recorded = facts
        .owner
        .as_ref()
        .is_some_and(|record| record.files.contains_key(&file.path));
    let other = matches!(
        facts.files.get(&file.path),
        Some(FileFact::Present { sha256, .. }) if *sha256 != file.sha256
    );
    other && !recorded
}

/// Drop-ins are other people's: they are told, never removed.
fn report_overrides(
    draft: &mut Draft,
    machine: &DesiredMachine,
    facts: &MachineFacts,
    entry: &Entry,
    inputs: &Inputs,
) {
    let options = config::options(machine, entry);
    for found in effective::overrides(&options, &dropins(facts)) {
        draft.wait(
            format!("{}:{}", machine.name, found.file),
            WaitKind::Report,
            format!("it overrides {}, which the config repo sets", found.key),
        );
    }
    let started = facts.k3s.started.get(inputs.unit_name);
    let Some(started) = started.filter(|_| inputs.has_foreign_unit()) else {
        return;
    };
    let arguments = given::given(started, &BTreeMap::new(), &[]);
    for (key, declared) in options {
        if arguments.contains_key(&key) && !given::meets(&arguments, &key, &declared) {
            draft.wait(
                format!("{}:{}", machine.name, inputs.unit_name),
                WaitKind::Report,
                format!("its arguments override {key}, which the config repo sets"),
            );
        }
    }
}

/// The drop-ins that can be read, in k3s' order.
pub(super) fn dropins(facts: &MachineFacts) -> Vec<(String, BTreeMap<String, Value>)> {
    let files = facts.k3s.dropins.iter();
    files
        .filter_map(|(path, text)| Some((path.clone(), config::read_options(text)?)))
        .collect()
}

/// Files that differ, with what differs.
fn differing(inputs: &Inputs, facts: &MachineFacts) -> Vec<(FileSpec, String)> {
    inputs
        .files()
        .filter_map(|file| {
            let why = if file.path == paths::BINARY_PATH {
                binary_difference(file, facts)?
            } else {
                difference(file, facts.files.get(&file.path))?
            };
            Some((file.clone(), format!("{}: {why}", file.path)))
        })
        .collect()
}

/// The binary is looked at by the probe's own line, since it is large and its
/// version is wanted too.
pub(super) fn binary_difference(file: &FileSpec, facts: &MachineFacts) -> Option<String> {
    match &facts.k3s.binary {
        None => Some("it does not exist".to_owned()),
        Some(binary) if binary.sha256 == file.sha256 => None,
        Some(binary) if binary.version.is_empty() => Some("it is not k3s".to_owned()),
        Some(binary) => Some(format!("it is {} with another digest", binary.version)),
    }
}

fn running(
    draft: &mut Draft,
    (cluster, machine): (&DesiredCluster, &DesiredMachine),
    facts: &MachineFacts,
    fact: &UnitFact,
    inputs: &Inputs,
) {
    let differing = differing(inputs, facts);
    let record = facts.owner.clone().unwrap_or_default();
    let process_is_right = match record.runs.get(inputs.unit_name) {
        // Our own start: we know what it read.
        Some((invocation, digest)) if *invocation == fact.invocation => *digest == inputs.digest,
        // Somebody else started it (a reboot, systemctl): it read what lay there then.
        Some(_) | None => differing.is_empty() && started_after(fact, facts, inputs),
    };
    if process_is_right {
        // `activating` may be a start that takes its time, or a loop of crashes.
        if fact.active != "active" {
            let kind = if machine.optional {
                WaitKind::Optional
            } else {
                WaitKind::Progress
            };
            draft.wait(
                format!("{}:{}", machine.name, inputs.unit_name),
                kind,
                format!(
                    "it is {} ({}), {} restarts",
                    fact.active, fact.sub, fact.restarts
                ),
            );
        }
        for (file, why) in differing {
            // The process runs with the right inputs; only the file was touched since.
            draft.step(
                Target::Machine(machine.name.clone()),
                Action::WriteFile {
                    reload: file.path.starts_with("/etc/systemd/system/"),
                    file: file.clone(),
                },
                Proposal {
                    desired: &spec_text(&file),
                    class: Disruption::None,
                    cause: Cause::Drift,
                    confirm: false,
                    at: Some(&cluster.origin),
                    why,
                },
            );
        }
        return;
    }
    let mut whys: Vec<String> = differing.iter().map(|(_, why)| why.clone()).collect();
    if whys.is_empty() {
        whys.push("its process is older than its configuration".to_owned());
    }
    let cause = if differing.is_empty() {
        Cause::Follow
    } else if differing
        .iter()
        .all(|(file, _)| cause_of(file, record.files.get(&file.path)) == Cause::Drift)
    {
        Cause::Drift
    } else {
        Cause::Commit
    };
    draft.step(
        Target::Machine(machine.name.clone()),
        Action::RestartK3s {
            unit: inputs.unit_name.to_owned(),
            files: differing.into_iter().map(|(file, _)| file).collect(),
            inputs: inputs.digest.clone(),
        },
        Proposal {
            desired: &inputs.digest.0,
            class: Disruption::Restart,
            cause,
            confirm: false,
            at: Some(&cluster.origin),
            why: whys.join("; "),
        },
    );
}

/// All of its files are older than the process. Seconds are compared, so a file of
/// the same second counts as newer: better a restart than a silent old process.
fn started_after(fact: &UnitFact, facts: &MachineFacts, inputs: &Inputs) -> bool {
    inputs
        .files()
        .filter(|file| file.path != paths::BINARY_PATH)
        .all(|file| match facts.files.get(&file.path) {
            Some(FileFact::Present { mtime_s, .. }) => *mtime_s < fact.started_s,
            Some(FileFact::Absent | FileFact::Other(_)) | None => false,
        })
}

fn stopped(
    draft: &mut Draft,
    (cluster, machine): (&DesiredCluster, &DesiredMachine),
    facts: &MachineFacts,
    (fact, entry): (&UnitFact, &Entry),
    inputs: &Inputs,
) {
    let target = Target::Machine(machine.name.clone());
    let differing = differing(inputs, facts);
    let began = fact.load == "loaded" && fact.started_s > 0;
    if let Some((binary, why)) = differing
        .iter()
        .find(|(file, _)| file.path == paths::BINARY_PATH)
    {
        let recorded = facts
            .owner
            .as_ref()
            .and_then(|record| record.files.get(&binary.path));
        draft.step(
            target.clone(),
            Action::InstallK3s {
                binary: binary.clone(),
                version: cluster.version.clone(),
            },
            Proposal {
                desired: &spec_text(binary),
                class: Disruption::None,
                cause: cause_of(binary, recorded),
                confirm: false,
                at: Some(&cluster.version_origin),
                why: why.clone(),
            },
        );
    }
    let files = differing
        .into_iter()
        .map(|(file, _)| file)
        .filter(|file| file.path != paths::BINARY_PATH)
        .collect();
    let join = match entry {
        Entry::Begin => None,
        Entry::Join(url) => Some(url.clone()),
    };
    draft.step(
        target,
        Action::StartK3s {
            unit: inputs.unit_name.to_owned(),
            files,
            inputs: inputs.digest.clone(),
            join,
        },
        Proposal {
            desired: &inputs.digest.0,
            class: Disruption::None,
            cause: if began { Cause::Drift } else { Cause::Commit },
            confirm: false,
            at: Some(&machine.origin),
            why: if began {
                format!("{} is {}", inputs.unit_name, fact.active)
            } else {
                format!(
                    "k3s has never run here; the cluster wants {}",
                    cluster.version
                )
            },
        },
    );
}
