//! Watching a repository on this machine: something about its refs changed. It
//! carries no data: whoever is woken fetches and compares.
//!
//! Where the kernel has no watches left (128 inotify instances for each user on a
//! stock Debian 12, and every container with systemd takes a dozen of root's), the
//! few files are looked at instead.
//!
//! A watch can miss things (a folder made and filled in one go, a repository
//! replaced whole): polling goes on beside it, at a longer interval.

use std::collections::BTreeMap;
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

/// Without kernel watches the refs are looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Files that are looked at; a repository with more branches is polled by fetching.
const FILES_MAX: usize = 10_000;

/// A watch on the refs of a repository; it ends when dropped.
#[derive(Debug)]
pub struct RefWatch {
    refs: Utf8PathBuf,
    identity: (u64, u64),
    tasks: Vec<JoinHandle<()>>,
    kernel: Option<RecommendedWatcher>,
}

impl RefWatch {
    /// Watches the repository of a path or `file://` URL; `None` where it is not on
    /// this machine or is no repository: then it is polled.
    /// `changed` is notified after refs changed; one notification may stand for many
    /// changes, and one that nobody waits for is kept.
    /// To be called within a tokio runtime.
    pub fn new(url: &str, changed: Arc<Notify>) -> Option<Self> {
        let git_dir = git_dir(&url::local_path(url)?)?;
        let (send, events) = mpsc::channel(1);
        let before = signature(&git_dir);
        let mut watch = Self::still(&git_dir)?;
        watch.tasks.push(tokio::spawn(settle(events, changed)));
        match start(&git_dir, send.clone()) {
            Ok(watcher) => watch.kernel = Some(watcher),
            Err(error) => {
                tracing::warn!(%git_dir, %error, "the kernel does not watch it: it is looked at");
                watch.tasks.push(tokio::spawn(look(git_dir, before, send)));
            }
        }
        Some(watch)
    }

    /// Looks at the files, as where the kernel has no watches left.
    #[cfg(test)]
    fn by_looking(url: &str, changed: Arc<Notify>) -> Option<Self> {
        let git_dir = git_dir(&url::local_path(url)?)?;
        let (send, events) = mpsc::channel(1);
        let before = signature(&git_dir);
        let mut watch = Self::still(&git_dir)?;
        watch.tasks.push(tokio::spawn(settle(events, changed)));
        watch.tasks.push(tokio::spawn(look(git_dir, before, send)));
        Some(watch)
    }

    fn still(git_dir: &Utf8Path) -> Option<Self> {
        let refs = git_dir.join("refs");
        Some(Self {
            identity: identity(&refs)?,
            refs,
            tasks: Vec::new(),
            kernel: None,
        })
    }

    /// False where the watched repository was removed or replaced: watch again.
    pub fn is_current(&self) -> bool {
        identity(&self.refs) == Some(self.identity)
    }
}

impl Drop for RefWatch {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn identity(path: &Utf8Path) -> Option<(u64, u64)> {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

fn start(git_dir: &Utf8Path, send: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
    let on_event = move |event: notify::Result<notify::Event>| {
        if event.map_or(true, |event| matters(&event)) {
            // Full means that a wake-up is on its way already.
            _ = send.try_send(());
        }
    };
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

/// Sends when the files with the refs are not as they were `before`.
async fn look(git_dir: Utf8PathBuf, mut before: Signature, send: mpsc::Sender<()>) {
    let mut every = tokio::time::interval(LOOK_EVERY);
    loop {
        every.tick().await;
        let now = signature(&git_dir);
        if now != before {
            before = now;
            if send.send(()).await.is_err() {
                return;
            }
        }
    }
}

/// File by file: inode, size and time of change. A ref is always a new file.
type Signature = BTreeMap<Utf8PathBuf, (u64, u64, i64, i64)>;

fn signature(git_dir: &Utf8Path) -> Signature {
    let mut found = Signature::new();
    let mut open = vec![git_dir.join("refs"), git_dir.join("reftable")];
    add(&mut found, git_dir.join("packed-refs"));
    add(&mut found, git_dir.join("HEAD"));
    while let Some(folder) = open.pop() {
        for entry in folder.read_dir_utf8().into_iter().flatten().flatten() {
            if found.len() >= FILES_MAX {
                return found;
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(entry.into_path());
            } else if entry.path().extension() != Some("lock") {
                add(&mut found, entry.into_path());
            }
        }
    }
    found
}

fn add(found: &mut Signature, path: Utf8PathBuf) {
    if let Ok(file) = fs::symlink_metadata(&path) {
        let stamp = (file.ino(), file.size(), file.ctime(), file.ctime_nsec());
        found.insert(path, stamp);
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
