//! This host: its configuration, state directory, store, mirror and keys.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use secrecy::SecretSlice;
use trueup_drivers::age::{Identities, IdentityError};
use trueup_drivers::git::{GitError, Mirror};
use trueup_drivers::store::{StateDir, StateDirError};
use trueup_model::id::CommitId;
use trueup_model::port::store::{Store, StoreError};

use super::settings::{Settings, SettingsError};

/// Bytes of the host's key for keyed digests: as long as SHA-256's output.
const KEY_BYTES: usize = 32;

/// This host.
#[derive(Debug)]
pub struct Host {
    /// Its configuration.
    pub settings: Settings,
    /// Its name on targets.
    pub holder: String,
    /// History, outbox, baselines.
    pub store: Arc<dyn Store>,
    /// The config repo.
    pub mirror: Mirror,
    /// Key of keyed digests.
    pub(crate) key: SecretSlice<u8>,
    /// age identities.
    pub(crate) identities: Option<Arc<Identities>>,
    /// Held as long as this lives.
    pub(crate) state: StateDir,
}

/// Why this host cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The host configuration.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The state directory; another run holds it, or it cannot be used.
    #[error(transparent)]
    State(#[from] StateDirError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The mirror.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The age identities.
    #[error(transparent)]
    Age(#[from] IdentityError),
    /// The host's key.
    #[error("the key {path}: {why}")]
    Key {
        /// The file.
        path: Utf8PathBuf,
        /// What happened.
        why: String,
    },
}

impl Host {
    /// Open this host and hold its state directory.
    pub async fn open(config: &Utf8Path) -> Result<Self, HostError> {
        let settings = Settings::read(config)?;
        let holder = settings.holder()?;
        let identities = match &settings.age.identity_file {
            Some(path) => Some(Arc::new(Identities::load(path)?)),
            None => None,
        };
        let state = StateDir::open(&settings.state_dir)?;
        let store = state.store()?;
        let mirror = Mirror::open(&state.mirror()).await?;
        let key = key(&settings.state_dir.join("digest.key"))?;
        Ok(Self {
            settings,
            holder,
            store: Arc::new(store),
            mirror,
            key,
            identities,
            state,
        })
    }

    /// This tip was accepted: the next one is compared with it.
    pub(crate) fn accept(&self, commit: &CommitId) -> Result<(), StoreError> {
        let at = u64::try_from(super::clock::now_s()).unwrap_or(0);
        let fleet = self.settings.fleet.parse();
        if let Ok(fleet) = fleet {
            self.store.commit_seen(&fleet, commit, at)?;
        }
        Ok(())
    }
}

/// The key, made at the first start. Losing it costs rebuilt baselines only.
fn key(path: &Utf8Path) -> Result<SecretSlice<u8>, HostError> {
    let error = |why: std::io::Error| HostError::Key {
        path: path.to_owned(),
        why: why.to_string(),
    };
    match fs::read(path) {
        Ok(bytes) if bytes.len() == KEY_BYTES => return Ok(bytes.into()),
        Ok(_) => {}
        Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => {}
        Err(other) => return Err(error(other)),
    }
    let mut bytes = vec![0_u8; KEY_BYTES];
    let mut random = fs::File::open("/dev/urandom").map_err(error)?;
    std::io::Read::read_exact(&mut random, &mut bytes).map_err(error)?;
    let new = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .map_err(error)?;
    file.write_all(&bytes).map_err(error)?;
    file.sync_all().map_err(error)?;
    fs::rename(&new, path).map_err(error)?;
    Ok(bytes.into())
}
