use super::super::testbed::{Scratch, commit, git, repository};
use super::{Arc, Duration, Notify, QUIET, RefWatch, fs, timeout};

/// Long beyond the quiet time: a wake-up that does not come in it never comes.
const LIMIT: Duration = Duration::from_secs(10);

async fn woken(watch: &Watched) {
    timeout(LIMIT, watch.1.notified()).await.unwrap();
}

/// A watch, and what it wakes.
type Watched = (RefWatch, Arc<Notify>);

fn look_only(url: &str) -> Option<Watched> {
    let changed = Arc::new(Notify::new());
    Some((RefWatch::by_looking(url, Arc::clone(&changed))?, changed))
}

fn start(url: &str) -> Option<Watched> {
    let changed = Arc::new(Notify::new());
    Some((RefWatch::new(url, Arc::clone(&changed))?, changed))
}

#[tokio::test]
async fn commits_pushes_and_packing_wake() {
    check_wakes(start).await;
}

#[tokio::test]
async fn without_kernel_watches_too() {
    check_wakes(look_only).await;
}

async fn check_wakes(start: fn(&str) -> Option<Watched>) {
    let scratch = Scratch::new();
    let work = scratch.path.join("work");
    repository(&work);
    commit(&work, "one");
    let bare = scratch.path.join("bare.git");
    git(&scratch.path, &["init", "-q", "--bare", "bare.git"]);

    let of_work = start(work.as_str()).unwrap();
    let of_bare = start(&format!("file://{bare}")).unwrap();
    commit(&work, "two");
    woken(&of_work).await;
    git(&work, &["push", "-q", bare.as_str(), "main"]);
    woken(&of_bare).await;
    git(&work, &["push", "-q", bare.as_str(), "main:new/branch"]);
    woken(&of_bare).await;
    git(&bare, &["pack-refs", "--all"]);
    woken(&of_bare).await;
    commit(&work, "three");
    git(&work, &["push", "-q", bare.as_str(), "main:new/branch"]);
    woken(&of_bare).await;
}

#[tokio::test]
async fn a_wake_up_that_nobody_waits_for_is_kept() {
    let scratch = Scratch::new();
    repository(&scratch.path);
    let (_watch, changed) = start(scratch.path.as_str()).unwrap();
    commit(&scratch.path, "one");
    // Nobody waits while it settles; the permit is there afterwards.
    tokio::time::timeout(LIMIT, async {
        while timeout(Duration::from_millis(1), changed.notified())
            .await
            .is_err()
        {}
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn reading_does_not_wake() {
    let scratch = Scratch::new();
    repository(&scratch.path);
    commit(&scratch.path, "one");
    let (_watch, changed) = start(scratch.path.as_str()).unwrap();
    git(&scratch.path, &["log"]);
    git(&scratch.path, &["ls-remote", "."]);
    assert!(timeout(QUIET * 3, changed.notified()).await.is_err());
}

#[tokio::test]
async fn linked_work_trees_are_watched_where_their_refs_are() {
    let scratch = Scratch::new();
    let main = scratch.path.join("main");
    repository(&main);
    commit(&main, "one");
    git(&main, &["worktree", "add", "-q", "../linked", "-b", "side"]);
    let linked = scratch.path.join("linked");
    let watch = start(linked.as_str()).unwrap();
    commit(&linked, "two");
    woken(&watch).await;
}

#[tokio::test]
async fn a_replaced_repository_is_noticed() {
    let scratch = Scratch::new();
    let repo = scratch.path.join("repo");
    repository(&repo);
    let (watch, _) = start(repo.as_str()).unwrap();
    assert!(watch.is_current());
    fs::rename(&repo, scratch.path.join("away")).unwrap();
    assert!(!watch.is_current());
    repository(&repo);
    assert!(!watch.is_current());
}

#[tokio::test]
async fn what_is_not_here_is_not_watched() {
    let scratch = Scratch::new();
    for url in [
        "https://example.org/x.git",
        "git@example.org:x",
        "/nonexistent",
        scratch.path.as_str(),
    ] {
        assert!(start(url).is_none(), "{url}");
    }
}
