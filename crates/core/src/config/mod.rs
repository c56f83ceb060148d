//! From the files of a commit to the checked configuration of one fleet, and everything that is
//! wrong on the way, all at once.
//!
//! A pure function of the tree. Absent from here: keys and decrypted values, the network, what is
//! live, and any decision about it.

mod check;
mod entry;
mod fleet;
mod forms;
pub mod kind;
mod manifests;
mod names;
mod rules;
mod secrets;
mod shape;
mod spelling;
mod survey;

use std::collections::BTreeMap;
use std::sync::Arc;

use trueup_model::document::{Diagnostic, Severity, Sources, sort};
use trueup_model::id::{AppName, ClusterName, FleetName, NodeName, ProfileName};
use trueup_model::kinds::{self, SecretRef};
use trueup_model::sops::SopsFile;
use trueup_model::tree::Tree;

use survey::has_error;

pub use entry::Entry;
pub use kind::Kind;
pub use manifests::{Application, Body, Broken, Manifest};

/// One fleet as a commit describes it, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its name.
    pub name: FleetName,
    /// Its folder in the tree; `""` for the root.
    pub folder: String,
    /// Its own document.
    pub fleet: Entry<kinds::Fleet>,
    /// Machines.
    pub nodes: BTreeMap<NodeName, Entry<kinds::Node>>,
    /// What machines share.
    pub profiles: BTreeMap<ProfileName, Entry<kinds::NodeProfile>>,
    /// Clusters.
    pub clusters: BTreeMap<ClusterName, Entry<kinds::Cluster>>,
    /// Applications with their manifests.
    pub applications: BTreeMap<AppName, Application>,
    /// Encrypted files that the kinds refer to, by the path in the reference. An error is a file
    /// that cannot be used, in the words of its first finding.
    pub secrets: BTreeMap<String, Result<Arc<SopsFile>, String>>,
}

impl Config {
    /// The encrypted file that a reference names.
    ///
    /// # Errors
    /// The file cannot be used; why.
    pub fn secret_file(&self, reference: &SecretRef) -> Result<&Arc<SopsFile>, String> {
        match self.secrets.get(&reference.secret) {
            Some(Ok(file)) => Ok(file),
            Some(Err(why)) => Err(why.clone()),
            None => Err(format!("no secret file `{}`", reference.secret)),
        }
    }
}

/// What became of a tree.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration; absent when a document of ours has an error, so that a broken commit
    /// changes nothing. Broken manifests and secret files do not stop the rest: they are marked in
    /// what uses them.
    pub config: Option<Config>,
    /// Everything that was found, in the order of files and lines.
    pub findings: Vec<Diagnostic>,
    /// The texts that the findings point into.
    pub sources: Sources,
}

impl Loaded {
    /// Whether nothing worse than a warning was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings
            .iter()
            .all(|finding| finding.severity == Severity::Warning)
    }
}

/// Names and folders of the Fleets of a tree, in the order of their folders. Broken Fleet
/// documents are left out; [`load`] reports them.
#[must_use]
pub fn fleets(tree: &Tree) -> Vec<(FleetName, String)> {
    let survey = survey::survey(tree);
    let (found, _) = fleet::all(&survey);
    found
        .into_iter()
        .map(|fleet| (fleet.name, fleet.folder))
        .collect()
}

/// Loads the fleet of this name, or the only one there is.
#[must_use]
pub fn load(tree: &Tree, fleet: Option<&str>) -> Loaded {
    let mut survey = survey::survey(tree);
    let sources = std::mem::take(&mut survey.sources);
    let mut findings = Vec::new();
    let config = build(&survey, fleet, &mut findings);
    sort(&mut findings);
    Loaded {
        config,
        findings,
        sources,
    }
}

fn build(
    survey: &survey::Survey,
    wanted: Option<&str>,
    findings: &mut Vec<Diagnostic>,
) -> Option<Config> {
    let (fleets, faults) = fleet::all(survey);
    findings.extend(faults);
    let own = fleet::choose(&fleets, wanted, survey, findings)?;
    let scope = fleet::Scope::new(own, &fleets);
    let before = findings.len();
    survey.report(&scope, findings);
    let names::Named {
        broken: unusable,
        nodes,
        profiles,
        clusters,
        applications,
    } = names::collect(survey, &scope, findings);
    let mut config = Config {
        name: own.name.clone(),
        folder: own.folder.clone(),
        fleet: own.entry.clone(),
        nodes,
        profiles,
        clusters,
        applications: applications
            .into_iter()
            .map(|(name, entry)| (name, Application::of(entry)))
            .collect(),
        secrets: BTreeMap::new(),
    };
    rules::check(&config, &unusable, findings);
    secrets::resolve(survey, &scope, &mut config, findings);
    let broken = has_error(findings.get(before..).unwrap_or_default());
    survey.report_secrets(&scope, findings);
    manifests::resolve(survey, &scope, &mut config, findings);
    (!broken).then_some(config)
}

#[cfg(test)]
mod tests;
