//! A k3s that somebody else installed, on a machine that is ours: its unit with its
//! arguments stays, and while it runs with what the repo declares, nothing is written.

use trueup_model::facts::machine::{Datastore, FileFact, MachineFacts, Started, UnitFact};
use trueup_model::kinds::Role;
use trueup_model::step::{Action, Cause, Disruption, Target};

use super::WaitKind;
use super::k3s::{Inputs, binary_difference, dropins};
use super::machine::spec_text;
use super::members::role;
use crate::desired::{DesiredCluster, DesiredMachine};
use crate::k3s::config::{self, Entry};
use crate::k3s::given::{self, Given};
use crate::paths;
use crate::round::{Draft, Proposal};

/// One such machine, and what it is to be.
pub(super) struct Hand<'a> {
    pub(super) cluster: &'a DesiredCluster,
    pub(super) machine: &'a DesiredMachine,
    pub(super) facts: &'a MachineFacts,
    pub(super) entry: &'a Entry,
    pub(super) inputs: &'a Inputs,
}

/// As long as trueup has not written `config.yaml`.
pub(super) fn applies(inputs: &Inputs, facts: &MachineFacts) -> bool {
    let record = facts.owner.as_ref();
    inputs.has_foreign_unit()
        && record.is_none_or(|record| !record.files.contains_key(paths::CONFIG_PATH))
}

/// It runs: nothing is done while it was given what is declared.
pub(super) fn running(draft: &mut Draft, hand: &Hand<'_>, fact: &UnitFact) {
    let unit = hand.inputs.unit_name;
    let subject = format!("{}:{unit}", hand.machine.name);
    let Some(started) = hand.facts.k3s.started.get(unit) else {
        draft.wait(
            subject,
            WaitKind::Unknown,
            "what it was started with cannot be read",
        );
        return;
    };
    let given = given(hand.facts, started);
    if let Err(why) = token(hand, &given) {
        draft.wait(
            format!("{}:token", hand.machine.name),
            WaitKind::Broken,
            why,
        );
        return;
    }
    if fact.active != "active" {
        let why = format!("it is {} ({})", fact.active, fact.sub);
        draft.wait(subject, WaitKind::Progress, why);
    }
    let mut whys = differences(hand, &given);
    if is_newer(hand.facts, fact) {
        whys.push("its configuration is newer than its process".to_owned());
    }
    let binary = &hand.inputs.binary;
    let binary_differs = binary_difference(binary, hand.facts);
    whys.extend(
        binary_differs
            .iter()
            .map(|why| format!("{}: {why}", binary.path)),
    );
    if whys.is_empty() {
        adopt_binary(draft, hand);
        return;
    }
    let mut files = vec![hand.inputs.config.clone(), hand.inputs.token.clone()];
    files.extend(binary_differs.map(|_| binary.clone()));
    let foreign = matches!(
        hand.facts.files.get(paths::CONFIG_PATH),
        Some(FileFact::Present { .. } | FileFact::Other(_))
    );
    if foreign {
        whys.push(format!(
            "{} was not written by trueup and is replaced",
            paths::CONFIG_PATH
        ));
    }
    draft.step(
        Target::Machine(hand.machine.name.clone()),
        Action::RestartK3s {
            unit: unit.to_owned(),
            files,
            inputs: hand.inputs.digest.clone(),
        },
        Proposal {
            desired: &hand.inputs.digest.0,
            class: Disruption::Restart,
            cause: Cause::Commit,
            confirm: foreign,
            at: Some(&hand.cluster.origin),
            why: whys.join("; "),
        },
    );
}

/// It does not run: what it would be given is in its unit, so it is started as it is.
pub(super) fn stopped(draft: &mut Draft, hand: &Hand<'_>, fact: &UnitFact) {
    let unit = hand.inputs.unit_name;
    draft.step(
        Target::Machine(hand.machine.name.clone()),
        Action::StartK3s {
            unit: unit.to_owned(),
            files: Vec::new(),
            inputs: hand.inputs.digest.clone(),
            join: match hand.entry {
                Entry::Begin => None,
                Entry::Join(url) => Some(url.clone()),
            },
        },
        Proposal {
            desired: &format!("as it was installed {}", hand.inputs.digest),
            class: Disruption::None,
            cause: Cause::Drift,
            confirm: false,
            at: Some(&hand.machine.origin),
            why: format!("{unit}, which somebody else installed, is {}", fact.active),
        },
    );
}

fn given(facts: &MachineFacts, started: &Started) -> Given {
    let config = match facts.files.get(paths::CONFIG_PATH) {
        Some(FileFact::Present {
            content: Some(text),
            ..
        }) => config::read_options(text).unwrap_or_default(),
        Some(FileFact::Present { content: None, .. } | FileFact::Absent | FileFact::Other(_))
        | None => std::collections::BTreeMap::new(),
    };
    given::given(started, &config, &dropins(facts))
}

/// The token is the key of the cluster's data: with another one k3s would not come
/// back from its next start.
fn token(hand: &Hand<'_>, given: &Given) -> Result<(), String> {
    let wanted = format!("sha256:{}", hand.inputs.token.sha256);
    let told = |values: &Vec<String>| values.last().cloned();
    let of_file = |path: &str| match hand.facts.files.get(path) {
        Some(FileFact::Present { sha256, .. }) => Some(format!("sha256:{sha256}")),
        Some(FileFact::Absent | FileFact::Other(_)) | None => None,
    };
    let live = match given.get("token-file").and_then(told) {
        Some(path) => of_file(&path).ok_or_else(|| {
            format!("it takes its token from {path}, which trueup does not look into")
        })?,
        None => match given.get("token").and_then(told) {
            Some(live) => live,
            // A first server that was given none made one, and an agent that has
            // joined needs none.
            None if role(hand.machine) == Some(Role::Agent) => return Ok(()),
            None => {
                return Err("it was started without a token, and made one of its own: put that into the secret of tokenFrom, and into the unit's environment as K3S_TOKEN".to_owned());
            }
        },
    };
    if live == wanted {
        return Ok(());
    }
    Err(format!(
        "the token that it was started with is not the declared one [{}]; nothing is changed, since k3s does not start with another one",
        hand.cluster.origin
    ))
}

/// Declared options that it was not given. What says where the machine came in is
/// left out: k3s reads it at the first start.
fn differences(hand: &Hand<'_>, given: &Given) -> Vec<String> {
    let own = hand.machine.k3s.as_ref().map(|k3s| &k3s.options);
    let joined =
        hand.facts.k3s.datastore == Datastore::Etcd || role(hand.machine) == Some(Role::Agent);
    config::options(hand.machine, hand.entry)
        .into_iter()
        .filter(|(key, declared)| {
            let explicit = own.is_some_and(|own| own.contains_key(key));
            match key.as_str() {
                "token-file" => false,
                "server" | "cluster-init" if joined => false,
                "node-name" if !given.contains_key(key) => {
                    hand.facts.hostname.to_lowercase() != hand.machine.name.as_str()
                }
                "node-ip" if !explicit && !given.contains_key(key) => false,
                _ => !given::meets(given, key, declared),
            }
        })
        .map(|(key, _)| format!("it was not given the declared {key}"))
        .collect()
}

/// Its files were changed after it was started: what it runs with is not what they say.
fn is_newer(facts: &MachineFacts, fact: &UnitFact) -> bool {
    let paths = [paths::CONFIG_PATH, fact.path.as_str()];
    fact.needs_reload
        || paths.iter().any(|path| match facts.files.get(*path) {
            Some(FileFact::Present { mtime_s, .. }) => *mtime_s > fact.started_s,
            Some(FileFact::Absent | FileFact::Other(_)) | None => false,
        })
}

fn adopt_binary(draft: &mut Draft, hand: &Hand<'_>) {
    let binary = &hand.inputs.binary;
    let record = hand.facts.owner.as_ref();
    let recorded = record.and_then(|record| record.files.get(&binary.path));
    if recorded == Some(&binary.sha256) {
        return;
    }
    draft.step(
        Target::Machine(hand.machine.name.clone()),
        Action::AdoptFile {
            file: binary.clone(),
        },
        Proposal {
            desired: &spec_text(binary),
            class: Disruption::None,
            cause: Cause::Commit,
            confirm: false,
            at: Some(&hand.cluster.version_origin),
            why: "it is the declared release already".to_owned(),
        },
    );
}
