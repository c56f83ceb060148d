//! One commit, loaded: its configuration, secrets, connections and desired state.

use std::sync::Arc;

use trueup_core::config::{self, Config, Loaded};
use trueup_core::desired::{Desired, Secrets, resolve};
use trueup_drivers::git::objects;
use trueup_model::document::Severity;
use trueup_model::id::CommitId;

use super::host::Host;
use super::vault::Vault;
use super::world::{World, WorldError};

/// What a commit came to.
#[derive(Debug)]
pub struct Commit {
    /// Its id.
    pub id: CommitId,
    /// Findings and the texts that they point into.
    pub loaded: Loaded,
    /// What it wants, if it is sound.
    pub(crate) plan: Option<Sound>,
}

/// The parts of a sound commit.
#[derive(Debug, Clone)]
pub(crate) struct Sound {
    /// What it wants.
    pub(crate) desired: Arc<Desired>,
    /// Decrypted values.
    pub(crate) vault: Arc<Vault>,
    /// Connections.
    pub(crate) world: Arc<World>,
}

/// Why a commit cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Its files cannot be read.
    #[error("commit {commit}: {why}")]
    Read {
        /// The commit.
        commit: CommitId,
        /// What happened.
        why: String,
    },
    /// The connections cannot be made.
    #[error(transparent)]
    World(#[from] WorldError),
}

impl Commit {
    /// Load a commit out of the mirror.
    pub fn load(host: &Host, id: CommitId, before: Option<&Self>) -> Result<Self, CommitError> {
        let tree = objects::read_tree(host.mirror.dir(), id.as_str()).map_err(|error| {
            CommitError::Read {
                commit: id.clone(),
                why: error.to_string(),
            }
        })?;
        let mut loaded = config::load(&tree, Some(&host.settings.fleet));
        let plan = match loaded.config.take() {
            Some(config) => {
                let before = before.and_then(|before| before.plan.as_ref());
                Some(sound(host, &config, &id, before)?)
            }
            None => None,
        };
        Ok(Self { id, loaded, plan })
    }

    /// The first error, with its place.
    pub fn first_error(&self) -> Option<String> {
        let findings = self.loaded.findings.iter();
        let errors = findings.filter(|finding| finding.severity == Severity::Error);
        // What is said of the whole repo is most often the consequence of a mistake in a file.
        let first = errors.min_by_key(|finding| finding.place() == ".")?;
        Some(format!("{}: {}", first.place(), first.message))
    }

    /// Errors among its findings.
    pub fn errors(&self) -> usize {
        self.loaded
            .findings
            .iter()
            .filter(|finding| finding.severity == Severity::Error)
            .count()
    }
}

fn sound(
    host: &Host,
    config: &Config,
    id: &CommitId,
    before: Option<&Sound>,
) -> Result<Sound, CommitError> {
    let vault = Arc::new(Vault::open(config, host.identities.clone(), &host.key));
    let world = World::new(
        config,
        &host.settings,
        before.map(|before| before.world.as_ref()),
    )?;
    let secrets = Secrets {
        digest: &|reference| vault.digest(reference),
        open: &|file| {
            let opened = vault.decrypt(file)?;
            Ok(opened
                .documents
                .iter()
                .map(|document| document.expose().clone())
                .collect())
        },
        keyed: &|bytes| vault.keyed(bytes),
    };
    let desired = Arc::new(resolve(config, Some(id.clone()), secrets));
    Ok(Sound {
        desired,
        vault,
        world: Arc::new(world),
    })
}
