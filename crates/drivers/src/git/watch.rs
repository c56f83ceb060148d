//! Watching a repository on this machine: something about its refs changed. It
//! carries no data: whoever is woken fetches and compares.
//!
//! A watch can miss things (a folder made and filled in one go, a repository
//! replaced whole): polling goes on beside it, at a longer interval.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::url;

/// A push touches several files within a few milliseconds.
const QUIET: Duration = Duration::from_millis(100);
/// Under a storm of changes, the wake-up comes this late at the latest.
const QUIET_MAX: Duration = Duration::from_secs(1);

/// A `.git` file or `commondir` is one line.
const POINTER_BYTES_MAX: u64 = 4096;

/// A watch on the refs of a repository; it ends when dropped.
#[derive(Debug)]
pub struct RefWatch {
    refs: Utf8PathBuf,
    identity: (u64, u64),
    task: JoinHandle<()>,
    _watcher: RecommendedWatcher,
}

impl RefWatch {
    /// Watches the repository of a path or `file://` URL; `None` where it is not on
    /// this machine, is no repository, or cannot be watched: then it is polled.
    /// `changed` is notified after refs changed; one notification may stand for many
    /// changes, and one that nobody waits for is kept.
    /// To be called within a tokio runtime.
    pub fn new(url: &str, changed: Arc<Notify>) -> Option<Self> {
        let git_dir = git_dir(&url::local_path(url)?)?;
        let refs = git_dir.join("refs");
        let identity = identity(&refs)?;
        let (send, events) = mpsc::channel(1);
        let on_event = move |event: notify::Result<notify::Event>| {
            if event.map_or(true, |event| matters(&event)) {
                // Full means that a wake-up is on its way already.
                _ = send.try_send(());
            }
        };
        let watcher = start(&git_dir, on_event)
            .map_err(|error| tracing::warn!(%git_dir, %error, "cannot watch it; it is polled"))
            .ok()?;
        let task = tokio::spawn(settle(events, changed));
        Some(Self {
            refs,
            identity,
            task,
            _watcher: watcher,
        })
    }

    /// False where the watched repository was removed or replaced: watch again.
    pub fn is_current(&self) -> bool {
        identity(&self.refs) == Some(self.identity)
    }
}

impl Drop for RefWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn identity(path: &Utf8Path) -> Option<(u64, u64)> {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

fn start(
    git_dir: &Utf8Path,
    on_event: impl Fn(notify::Result<notify::Event>) + Send + 'static,
) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(on_event)?;
    // `packed-refs` and HEAD are renamed into their folder.
    watcher.watch(git_dir.as_std_path(), RecursiveMode::NonRecursive)?;
    for name in ["refs", "reftable"] {
        let folder = git_dir.join(name);
        if folder.is_dir() {
            watcher.watch(folder.as_std_path(), RecursiveMode::Recursive)?;
        }
    }
    Ok(watcher)
}

/// Reading changes nothing, and a lock file is not the ref yet.
fn matters(event: &notify::Event) -> bool {
    let lock = |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "lock");
    let only_locks = !event.paths.is_empty() && event.paths.iter().all(lock);
    !matches!(event.kind, EventKind::Access(_)) && !only_locks
}

/// Waits until it is quiet, then notifies.
async fn settle(mut events: mpsc::Receiver<()>, changed: Arc<Notify>) {
    while events.recv().await.is_some() {
        let latest = Instant::now() + QUIET_MAX;
        let until_quiet = async { while let Ok(Some(())) = timeout(QUIET, events.recv()).await {} };
        // Late is as good as quiet.
        _ = timeout_at(latest, until_quiet).await;
        changed.notify_one();
    }
}

/// The folder with the refs, found as git finds it: bare, `.git` folder, or `.git`
/// file of a linked work tree.
fn git_dir(path: &Utf8Path) -> Option<Utf8PathBuf> {
    let is_repository = |dir: &Utf8Path| dir.join("objects").is_dir() && dir.join("refs").is_dir();
    let suffixed = Utf8PathBuf::from(format!("{}.git", path.as_str().trim_end_matches('/')));
    for start in [path, &suffixed] {
        let dot_git = start.join(".git");
        if is_repository(&dot_git) {
            return Some(dot_git);
        }
        if is_repository(start) {
            return Some(start.to_owned());
        }
        if dot_git.is_file()
            && let Some(found) = linked(start, &dot_git)
            && is_repository(&found)
        {
            return Some(found);
        }
    }
    None
}

fn linked(work_tree: &Utf8Path, dot_git: &Utf8Path) -> Option<Utf8PathBuf> {
    let text = pointer(dot_git)?;
    let own = work_tree.join(text.strip_prefix("gitdir: ")?);
    match pointer(&own.join("commondir")) {
        Some(common) => Some(own.join(common)),
        None => Some(own),
    }
}

fn pointer(file: &Utf8Path) -> Option<String> {
    let size = fs::metadata(file).ok()?.len();
    if size > POINTER_BYTES_MAX {
        return None;
    }
    Some(fs::read_to_string(file).ok()?.trim_end().to_owned())
}

#[cfg(test)]
mod tests;
