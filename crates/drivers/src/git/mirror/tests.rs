use std::io::Write as _;
use std::net::TcpListener;

use super::super::testbed::{Scratch, commit, git, repository};
use std::fs;
use std::time::SystemTime;

use super::super::leftovers::LOCK_AGE_MAX;
use super::*;

const LIMIT: Duration = Duration::from_secs(20);

struct Bench {
    scratch: Scratch,
    origin: Utf8PathBuf,
    mirror: Mirror,
    main: BranchName,
}

impl Bench {
    async fn new() -> Self {
        let scratch = Scratch::new();
        let origin = scratch.path.join("origin");
        repository(&origin);
        let mirror = Mirror::open(&scratch.path.join("mirror.git"))
            .await
            .unwrap();
        Self {
            origin,
            mirror,
            main: "main".parse().unwrap(),
            scratch,
        }
    }
    async fn fetch(&self) -> Result<FetchedTip, GitError> {
        self.fetch_from(self.origin.as_str()).await
    }
    async fn fetch_from(&self, url: &str) -> Result<FetchedTip, GitError> {
        self.mirror.fetch(url, &self.main, LIMIT).await
    }
}

#[tokio::test]
async fn the_tip_moves_forward() {
    let bench = Bench::new().await;
    let one = commit(&bench.origin, "one");
    let tip = bench.fetch().await.unwrap();
    assert_eq!((tip.commit, tip.moved), (one.clone(), Moved::New));
    assert_eq!(bench.fetch().await.unwrap().moved, Moved::Same);

    commit(&bench.origin, "two");
    let three = commit(&bench.origin, "three");
    let tip = bench.fetch().await.unwrap();
    assert_eq!((&tip.commit, tip.moved), (&three, Moved::Forward));
    assert_eq!(bench.mirror.head(&bench.main).await.unwrap(), Some(three));
}

#[tokio::test]
async fn a_rewound_branch_is_held_until_it_is_accepted() {
    let bench = Bench::new().await;
    let one = commit(&bench.origin, "one");
    let two = commit(&bench.origin, "two");
    bench.fetch().await.unwrap();
    let set_back = |to: &str| git(&bench.origin, &["reset", "-q", "--hard", to]);

    set_back("HEAD~1");
    for _ in 0..2 {
        let tip = bench.fetch().await.unwrap();
        let from = two.clone();
        assert_eq!((&tip.commit, tip.moved), (&one, Moved::Rewound { from }));
        let head = bench.mirror.head(&bench.main).await.unwrap();
        assert_eq!(head.as_ref(), Some(&two), "nothing moves by itself");
    }
    // Another history, and the origin forgets the one before.
    let other = commit(&bench.origin, "other");
    git(
        &bench.origin,
        &["reflog", "expire", "--expire=now", "--all"],
    );
    git(&bench.origin, &["gc", "-q", "--prune=now"]);
    let tip = bench.fetch().await.unwrap();
    assert_eq!(tip.moved, Moved::Rewound { from: two.clone() });
    git(bench.mirror.dir(), &["gc", "-q", "--prune=now"]);
    let log = bench.mirror.log(None, &two, 10).await.unwrap();
    assert_eq!(log.len(), 2, "the accepted history stays reachable");

    bench.mirror.accept(&bench.main, &other).await.unwrap();
    assert_eq!(bench.fetch().await.unwrap().moved, Moved::Same);
    assert_eq!(bench.mirror.head(&bench.main).await.unwrap(), Some(other));
}

#[tokio::test]
async fn a_branch_that_is_gone_or_empty_changes_nothing() {
    let bench = Bench::new().await;
    let error = bench.fetch().await.unwrap_err();
    assert!(matches!(error, GitError::Empty { .. }), "{error}");

    let one = commit(&bench.origin, "one");
    bench.fetch().await.unwrap();
    git(&bench.origin, &["checkout", "-q", "-b", "side/one"]);
    git(&bench.origin, &["branch", "-q", "-D", "main"]);
    let error = bench.fetch().await.unwrap_err();
    let GitError::BranchGone { others, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(others, "side/one");
    assert_eq!(
        bench.mirror.head(&bench.main).await.unwrap(),
        Some(one.clone())
    );

    fs::remove_dir_all(&bench.origin).unwrap();
    let error = bench.fetch().await.unwrap_err();
    assert!(matches!(error, GitError::NotFound { .. }), "{error}");
    repository(&bench.origin);
    let error = bench.fetch().await.unwrap_err();
    assert!(matches!(error, GitError::Empty { .. }), "{error}");
    assert_eq!(bench.mirror.head(&bench.main).await.unwrap(), Some(one));
}

#[tokio::test]
async fn wrong_places_are_named() {
    let bench = Bench::new().await;
    commit(&bench.origin, "one");
    let check = async |url: &str, wanted: fn(&GitError) -> bool| {
        let error = bench.fetch_from(url).await.unwrap_err();
        assert!(wanted(&error), "{url}: {error:?}");
    };
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let plain = bench.scratch.path.join("plain");
    fs::create_dir(&plain).unwrap();
    check("/nonexistent/x", |e| matches!(e, GitError::NotFound { .. })).await;
    check(plain.as_str(), |e| {
        matches!(e, GitError::NotARepository { .. })
    })
    .await;
    for scheme in ["http", "ssh", "git"] {
        let url = format!("{scheme}://127.0.0.1:{port}/x");
        check(&url, |e| matches!(e, GitError::Unreachable { .. })).await;
    }
    check("foo://h/x", |e| matches!(e, GitError::Url { .. })).await;
    check("http://u:secret@h/x", |e| matches!(e, GitError::Url { .. })).await;

    let sha256 = bench.scratch.path.join("sha256");
    let name = [
        "init",
        "-q",
        "-b",
        "main",
        "--object-format=sha256",
        "sha256",
    ];
    git(&bench.scratch.path, &name);
    git(&sha256, &["commit", "-q", "--allow-empty", "-m", "one"]);
    check(sha256.as_str(), |e| {
        matches!(e, GitError::Unsupported { .. })
    })
    .await;

    commit(&bench.origin, "two");
    let source = format!("file://{}", bench.origin);
    git(
        &bench.scratch.path,
        &["clone", "-q", "--depth=1", &source, "shallow"],
    );
    let shallow = bench.scratch.path.join("shallow");
    check(shallow.as_str(), |e| {
        matches!(e, GitError::Unsupported { .. })
    })
    .await;
    assert_eq!(bench.mirror.head(&bench.main).await.unwrap(), None);
}

/// A server that answers every request with one status.
fn answering(status: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/r.git", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 4096];
            drop(std::io::Read::read(&mut stream, &mut request));
            let auth = "WWW-Authenticate: Basic realm=\"x\"\r\n";
            let head = format!("HTTP/1.1 {status}\r\n{auth}Content-Length: 0\r\n");
            drop(stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes()));
        }
    });
    url
}

#[tokio::test]
async fn http_answers_are_told_apart() {
    let bench = Bench::new().await;
    let check = async |status, wanted: fn(&GitError) -> bool| {
        let error = bench.fetch_from(&answering(status)).await.unwrap_err();
        assert!(wanted(&error), "{status}: {error:?}");
    };
    check("401 Unauthorized", |e| {
        matches!(e, GitError::Authentication { .. })
    })
    .await;
    check("403 Forbidden", |e| {
        matches!(e, GitError::Authentication { .. })
    })
    .await;
    check("404 Not Found", |e| matches!(e, GitError::NotFound { .. })).await;
    check("429 Too Many Requests", |e| {
        matches!(e, GitError::Protocol { .. })
    })
    .await;
    check("503 Service Unavailable", |e| {
        matches!(e, GitError::Unreachable { .. })
    })
    .await;
}

#[tokio::test]
async fn a_silent_server_ends_at_the_deadline_with_all_helpers() {
    let bench = Bench::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/silent.git", listener.local_addr().unwrap());
    let limit = Duration::from_millis(500);
    let error = bench
        .mirror
        .fetch(&url, &bench.main, limit)
        .await
        .unwrap_err();
    assert!(matches!(error, GitError::Timeout { .. }), "{error}");
    assert!(error.is_transient());
    // The URL is in the arguments of git and of its helper: none may be left.
    let left = || {
        fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.contains(&url) && line.starts_with("git")
                || line.contains(&url) && line.contains("git-remote")
        })
    };
    timeout_until(|| !left()).await;
}

async fn timeout_until(done: impl Fn() -> bool) {
    tokio::time::timeout(LIMIT, async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn branches_do_not_stand_in_each_others_way() {
    let bench = Bench::new().await;
    let one = commit(&bench.origin, "one");
    bench.fetch().await.unwrap();
    git(&bench.origin, &["branch", "-m", "main/next"]);
    let next: BranchName = "main/next".parse().unwrap();
    let tip = bench
        .mirror
        .fetch(bench.origin.as_str(), &next, LIMIT)
        .await
        .unwrap();
    assert_eq!((tip.commit, tip.moved), (one, Moved::New));
}

#[tokio::test]
async fn a_lock_left_by_a_killed_git_is_cleared() {
    let bench = Bench::new().await;
    commit(&bench.origin, "one");
    bench.fetch().await.unwrap();
    commit(&bench.origin, "two");
    let lock = bench.mirror.dir().join("refs/trueup/fetched/main.lock");
    let file = fs::File::create(&lock).unwrap();
    let error = bench.fetch().await.unwrap_err();
    assert!(matches!(error, GitError::Locked { .. }), "{error}");
    assert!(lock.exists(), "a young lock may be held");

    file.set_modified(SystemTime::now() - LOCK_AGE_MAX).unwrap();
    bench.fetch().await.unwrap_err();
    bench.fetch().await.unwrap();
    fs::File::create(&lock)
        .unwrap()
        .set_modified(SystemTime::now() - LOCK_AGE_MAX)
        .unwrap();
    Mirror::open(bench.mirror.dir()).await.unwrap();
    assert!(!lock.exists());
}

#[tokio::test]
async fn log_and_ancestry() {
    let bench = Bench::new().await;
    let one = commit(&bench.origin, "one");
    let two = commit(&bench.origin, "zwei: äöü");
    let three = commit(&bench.origin, "three\n\nbody");
    bench.fetch().await.unwrap();
    let log = bench.mirror.log(Some(&one), &three, 10).await.unwrap();
    let found: Vec<_> = log
        .iter()
        .map(|e| (&e.commit, e.subject.as_str()))
        .collect();
    assert_eq!(found, [(&three, "three"), (&two, "zwei: äöü")]);
    assert_eq!(log[0].author, "tester");
    assert!(log[0].at_s > 1_700_000_000);
    assert_eq!(bench.mirror.log(None, &three, 1).await.unwrap().len(), 1);
    assert_eq!(bench.mirror.log(Some(&three), &three, 9).await.unwrap(), []);

    assert!(bench.mirror.is_ancestor(&one, &three).await.unwrap());
    assert!(bench.mirror.is_ancestor(&one, &one).await.unwrap());
    assert!(!bench.mirror.is_ancestor(&three, &one).await.unwrap());
    let unknown: CommitId = "1".repeat(40).parse().unwrap();
    assert!(bench.mirror.is_ancestor(&unknown, &one).await.is_err());
}

#[tokio::test]
async fn opening_again_keeps_everything_and_tidying_too() {
    let bench = Bench::new().await;
    let one = commit(&bench.origin, "one");
    bench.fetch().await.unwrap();
    let again = Mirror::open(bench.mirror.dir()).await.unwrap();
    again.tidy().await.unwrap();
    assert_eq!(again.head(&bench.main).await.unwrap(), Some(one));
    assert!(!again.dir().join("hooks").exists());
    assert!(!again.dir().join("FETCH_HEAD").exists());
}

#[tokio::test]
async fn a_mirror_that_was_removed_is_made_again() {
    let bench = Bench::new().await;
    let one = commit(&bench.origin, "one");
    bench.fetch().await.unwrap();
    fs::remove_dir_all(bench.mirror.dir()).unwrap();
    assert_eq!(bench.mirror.head(&bench.main).await.unwrap(), None);
    let tip = bench.fetch().await.unwrap();
    assert_eq!((tip.commit, tip.moved), (one, Moved::New));
}

#[tokio::test]
async fn something_else_in_its_place_is_refused() {
    let scratch = Scratch::new();
    let name = ["init", "-q", "--bare", "--object-format=sha256", "m.git"];
    git(&scratch.path, &name);
    let error = Mirror::open(&scratch.path.join("m.git")).await.unwrap_err();
    assert!(matches!(error, GitError::Mirror { .. }), "{error:?}");
    fs::write(scratch.path.join("file"), "x").unwrap();
    assert!(Mirror::open(&scratch.path.join("file")).await.is_err());
}

#[tokio::test]
async fn revisions() {
    let bench = Bench::new().await;
    let one = commit(&bench.origin, "one");
    let two = commit(&bench.origin, "two");
    bench.fetch().await.unwrap();
    for (rev, wanted) in [
        ("main", &two),
        ("main", &two),
        (two.as_str(), &two),
        (one.short(), &one),
        (&format!("{two}~1"), &one),
    ] {
        assert_eq!(&bench.mirror.resolve(rev).await.unwrap(), wanted, "{rev}");
    }
    for rev in [
        "",
        "nothing",
        "--help",
        "main:x",
        "@{-1}",
        &"0".repeat(40),
        "HEAD",
    ] {
        let error = bench.mirror.resolve(rev).await.unwrap_err();
        assert!(
            matches!(error, GitError::UnknownRevision { .. }),
            "{rev}: {error:?}"
        );
    }
}

#[test]
fn versions() {
    for (text, version) in [
        ("2.39.5", Some((2, 39))),
        ("2.39.5 (Apple Git-154)", Some((2, 39))),
        ("2.50.0-rc1", Some((2, 50))),
        ("2.34", Some((2, 34))),
        ("what", None),
    ] {
        assert_eq!(parse_version(text), version, "{text}");
    }
}
