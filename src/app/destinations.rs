//! Where verdicts go: the notes always, forges where the host configuration names
//! them. Each has a task of its own, so that none holds up the loop or another.

use std::sync::Arc;
use std::time::Duration;

use camino::Utf8Path;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use trueup_drivers::forge::{Dialect, NotesForge, StatusForge, StatusSettings, TokenSource};
use trueup_model::port::{Forge, StoreError};

use super::clock::now_s;
use super::host::Host;
use super::outbox::Courier;
use super::runtime::seconds;
use super::settings::Settings;
use super::world::private_file;

/// Name of the notes among destinations.
pub(crate) const NOTES: &str = "notes";
/// Retries become due without anybody saying so.
const TICK: Duration = Duration::from_secs(1);
/// What is left at the end is delivered within this time, or at the next start.
const LAST_PASS: Duration = Duration::from_secs(5);
/// A token of GitHub has 93 characters.
const TOKEN_BYTES_MAX: usize = 4096;

/// Why a destination cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DestinationError {
    /// Settings or token.
    #[error("{0}")]
    Forge(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The tasks that deliver.
#[derive(Debug)]
pub(crate) struct Couriers {
    said: watch::Sender<()>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Couriers {
    /// Checks all destinations, and starts a task for each.
    pub(crate) fn start(host: &Host) -> Result<Self, DestinationError> {
        let notes = Arc::new(NotesForge::new(host.mirror.dir()));
        let mut all: Vec<(String, Arc<dyn Forge>)> = vec![(NOTES.to_owned(), notes)];
        for forge in forges(&host.settings)? {
            all.push((forge.name(), Arc::new(forge)));
        }
        let names: Vec<String> = all.iter().map(|(name, _)| name.clone()).collect();
        host.store.set_destinations(&names, seconds(now_s()))?;
        let (said, _) = watch::channel(());
        let (stop, _) = watch::channel(false);
        let fleet = host.settings.fleet.parse().ok();
        let seen = fleet.and_then(|fleet| host.store.last_commit(&fleet).ok().flatten());
        let tasks = all
            .into_iter()
            .map(|(name, forge)| {
                let push = (name == NOTES && host.settings.forge.notes.push).then(|| Push {
                    notes: NotesForge::new(host.mirror.dir()),
                    url: host.settings.repo.url.clone(),
                    holder: host.holder.clone(),
                });
                let mut courier = Courier::new(name.clone(), Arc::clone(&host.store), forge);
                // Notes are a local write: none is ever under way.
                if let Some(seen) = seen.as_ref().filter(|_| name != NOTES) {
                    courier.doubt(&seen.commit, seconds(now_s()));
                }
                tokio::spawn(run(courier, push, said.subscribe(), stop.subscribe()))
            })
            .collect();
        Ok(Self { said, stop, tasks })
    }

    /// Something was decided.
    pub(crate) fn wake(&self) {
        self.said.send_replace(());
    }

    /// Deliver what is left, for a short time.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        let deadline = tokio::time::Instant::now() + LAST_PASS;
        for mut task in self.tasks {
            if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
                task.abort();
            }
        }
    }
}

async fn run(
    mut courier: Courier,
    push: Option<Push>,
    mut said: watch::Receiver<()>,
    mut stop: watch::Receiver<bool>,
) {
    let now = || seconds(now_s());
    loop {
        let stopping = *stop.borrow();
        let arrived = courier.pass(&now).await;
        if let Some(push) = push.as_ref().filter(|_| arrived > 0) {
            push.push().await;
        }
        if stopping {
            return;
        }
        tokio::select! {
            // Nobody will ever say anything again.
            changed = said.changed() => if changed.is_err() { return },
            _ = stop.changed() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

/// The notes go to the origin too, where it is asked for.
#[derive(Debug)]
struct Push {
    notes: NotesForge,
    url: String,
    holder: String,
}

impl Push {
    async fn push(&self) {
        if let Err(error) = self.notes.push(&self.url, &self.holder).await {
            tracing::warn!(%error, "the notes are not pushed; they stand in the mirror");
        }
    }
}

/// A forge as the host configuration names it.
struct Named<'a> {
    dialect: Dialect,
    url: &'a str,
    repo: &'a str,
    token_file: &'a Utf8Path,
    ca_file: Option<&'a Utf8Path>,
}

/// The forges of the host configuration. Their tokens are read once here, so that a
/// token that others can read stops the start and not a delivery.
fn forges(settings: &Settings) -> Result<Vec<StatusForge>, DestinationError> {
    let gitea = settings.forge.gitea.iter().map(|gitea| Named {
        dialect: Dialect::Gitea,
        url: &gitea.url,
        repo: &gitea.repo,
        token_file: &gitea.token_file,
        ca_file: gitea.ca_file.as_deref(),
    });
    let github = settings.forge.github.iter().map(|github| Named {
        dialect: Dialect::GitHub,
        url: &github.api,
        repo: &github.repo,
        token_file: &github.token_file,
        ca_file: github.ca_file.as_deref(),
    });
    let mut found = Vec::new();
    for named in gitea.chain(github) {
        let dialect = named.dialect;
        let wrong =
            |why: String| DestinationError::Forge(format!("forge.{}: {why}", dialect.name()));
        let token = token_source(named.token_file);
        token().map_err(&wrong)?;
        let authorities = match named.ca_file {
            Some(path) => Some(
                std::fs::read(path).map_err(|error| wrong(format!("caFile {path}: {error}")))?,
            ),
            None => None,
        };
        let forge = StatusForge::new(&StatusSettings {
            dialect,
            url: named.url.to_owned(),
            repo: named.repo.to_owned(),
            token,
            authorities,
            link: settings.forge.link.clone(),
        });
        found.push(forge.map_err(|error| DestinationError::Forge(error.to_string()))?);
    }
    Ok(found)
}

fn token_source(path: &Utf8Path) -> TokenSource {
    let path = path.to_owned();
    Arc::new(move || {
        let bytes = private_file(&path).map_err(|why| format!("tokenFile {why}"))?;
        secret_line(bytes.expose_secret()).map_err(|why| format!("tokenFile {path} {why}"))
    })
}

/// The one word of a file.
pub(crate) fn secret_line(bytes: &[u8]) -> Result<SecretString, &'static str> {
    if bytes.len() > TOKEN_BYTES_MAX {
        return Err("is larger than any token");
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|_| "is not text")?
        .trim();
    if text.is_empty() {
        return Err("is empty");
    }
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("holds more than one word");
    }
    Ok(text.to_owned().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_word() {
        assert_eq!(secret_line(b" abc\n").unwrap().expose_secret(), "abc");
        for bad in [
            b"".as_slice(),
            b" \n",
            b"a b",
            b"a\nb",
            b"\xff",
            &[b'x'; 5000],
        ] {
            assert!(secret_line(bad).is_err());
        }
    }
}
