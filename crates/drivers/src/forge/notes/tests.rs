use std::fs;
use std::process::Command;
use std::sync::Arc;

use trueup_model::verdict::VerdictState;

use super::*;
use crate::git::testbed::{Scratch, commit, git, repository};
use crate::git::{BranchName, Mirror};

struct Bench {
    scratch: Scratch,
    origin: Utf8PathBuf,
    mirror: Utf8PathBuf,
    notes: NotesForge,
    commit: CommitId,
}

impl Bench {
    async fn new() -> Self {
        let scratch = Scratch::new();
        let (origin, mirror) = (scratch.path.join("origin"), scratch.path.join("m.git"));
        repository(&origin);
        let commit = commit(&origin, "one");
        let bench = Self {
            notes: NotesForge::new(&mirror),
            scratch,
            origin,
            mirror,
            commit,
        };
        bench.fetch().await;
        bench
    }
    async fn fetch(&self) {
        let mirror = Mirror::open(&self.mirror).await.unwrap();
        let limit = Duration::from_secs(20);
        let branch = BranchName::default();
        mirror
            .fetch(self.origin.as_str(), &branch, limit)
            .await
            .unwrap();
    }
    fn verdict(&self, context: &str, state: VerdictState, text: &str) -> Verdict {
        Verdict::new(self.commit.clone(), context, state, text)
    }
    /// The note as a person reads it.
    fn note(&self, commit: &CommitId) -> String {
        let name = "--ref=trueup";
        git(&self.mirror, &["notes", name, "show", commit.as_str()])
    }
}

const AT: &str = "2026-11-20T10:00:00Z";

/// trueup was killed with its git, which held the ref.
#[tokio::test]
async fn a_lock_left_by_a_killed_git_is_cleared() {
    let bench = Bench::new().await;
    let lock = bench.mirror.join("refs/notes/trueup.lock");
    fs::create_dir_all(lock.parent().unwrap()).unwrap();
    let file = fs::File::create(&lock).unwrap();
    let verdict = bench.verdict("trueup/home/plan", VerdictState::Success, "1 step");
    let error = bench.notes.publish(&verdict).await.unwrap_err();
    assert!(matches!(error, ForgeError::Later(_)), "{error}");
    assert!(lock.exists(), "a young lock may be held");

    let old = std::time::SystemTime::now() - Duration::from_secs(60);
    file.set_modified(old).unwrap();
    bench.notes.publish(&verdict).await.unwrap();
    assert!(bench.note(&bench.commit).contains("success: 1 step"));
}

#[tokio::test]
async fn verdicts_are_lines_on_the_commit() {
    let bench = Bench::new().await;
    let plan = bench.verdict("trueup/home/plan", VerdictState::Success, "no findings");
    let apply = |state, text| bench.verdict("trueup/home/apply/edge", state, text);
    let at = AT.parse().unwrap();
    assert_eq!(
        bench
            .notes
            .newest(&bench.commit, "trueup/home/plan")
            .await
            .unwrap(),
        None
    );
    for verdict in [
        plan.clone(),
        apply(VerdictState::Pending, "3 steps run"),
        apply(VerdictState::Success, "true: 5 machines, 12 objects"),
    ] {
        bench.notes.append(&verdict, at).await.unwrap();
    }
    let shown = git(
        &bench.mirror,
        &[
            "log",
            "--notes=trueup",
            "--format=%N",
            "-1",
            bench.commit.as_str(),
        ],
    );
    assert_eq!(
        shown.trim(),
        "2026-11-20T10:00:00Z trueup/home/plan success: no findings\n\
         2026-11-20T10:00:00Z trueup/home/apply/edge pending: 3 steps run\n\
         2026-11-20T10:00:00Z trueup/home/apply/edge success: true: 5 machines, 12 objects"
    );
    let newest = async |context| bench.notes.newest(&bench.commit, context).await.unwrap();
    assert_eq!(
        newest("trueup/home/apply/edge").await,
        Some(apply(VerdictState::Success, "true: 5 machines, 12 objects"))
    );
    assert_eq!(newest("trueup/home/plan").await, Some(plan));
    assert_eq!(newest("trueup/home/apply").await, None);
}

#[tokio::test]
async fn a_repeat_adds_nothing_and_a_return_does() {
    let bench = Bench::new().await;
    let yes = bench.verdict("c", VerdictState::Success, "yes");
    let no = bench.verdict("c", VerdictState::Failure, "no");
    for verdict in [&yes, &yes, &no, &no, &yes] {
        bench.notes.publish(verdict).await.unwrap();
    }
    assert_eq!(bench.note(&bench.commit).lines().count(), 3);
}

#[tokio::test]
async fn notes_of_people_stay() {
    let bench = Bench::new().await;
    let sha = bench.commit.as_str();
    git(
        &bench.mirror,
        &["notes", "--ref=trueup", "add", "-m", "by hand: fine", sha],
    );
    let verdict = bench.verdict("c", VerdictState::Success, "yes");
    bench.notes.publish(&verdict).await.unwrap();
    git(
        &bench.mirror,
        &["notes", "--ref=trueup", "append", "-m", "and later", sha],
    );
    let found = bench.notes.newest(&bench.commit, "c").await.unwrap();
    assert_eq!(found, Some(verdict));
    let note = bench.note(&bench.commit);
    assert!(note.starts_with("by hand: fine\n"), "{note}");
    assert!(note.ends_with("and later"), "{note}");
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writers_lose_nothing() {
    let bench = Arc::new(Bench::new().await);
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let bench = Arc::clone(&bench);
            tokio::spawn(async move {
                // Each with a handle of its own, as processes would.
                let notes = NotesForge::new(&bench.mirror);
                for n in 0..4 {
                    let context = format!("c/{writer}/{n}");
                    let verdict = bench.verdict(&context, VerdictState::Success, "yes");
                    while let Err(error) = notes.publish(&verdict).await {
                        assert!(matches!(error, ForgeError::Later(_)), "{error}");
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let note = bench.note(&bench.commit);
    let contexts: std::collections::BTreeSet<_> = note
        .lines()
        .filter_map(|text| line::read(&bench.commit, text))
        .map(|verdict| verdict.context)
        .collect();
    assert_eq!((contexts.len(), note.lines().count()), (32, 32), "{note}");
}

#[tokio::test]
async fn many_commits_keep_their_notes_over_a_change_of_fan_out() {
    let bench = Bench::new().await;
    let mut stream = String::new();
    for n in 1..=300 {
        stream += &format!(
            "commit refs/many\nmark :{n}\ncommitter t <t@example.org> {n} +0000\ndata 1\nx\n"
        );
    }
    stream += "commit refs/notes/trueup\ncommitter t <t@example.org> 1 +0000\ndata 1\nx\n";
    for n in 4..=300 {
        stream += &format!("N inline :{n}\ndata 8\nby hand\n\n");
    }
    let args = ["fast-import", "--quiet"];
    let process = GitProcess {
        stdin: stream.as_bytes(),
        ..GitProcess::short(&bench.mirror, &args)
    };
    assert!(process.run().await.unwrap().is_success());
    let commits: Vec<CommitId> = git(&bench.mirror, &["rev-list", "--reverse", "refs/many"])
        .lines()
        .map(|line| line.parse().unwrap())
        .collect();
    let (ours, theirs) = commits.split_at(3);
    for sha in ours {
        let verdict = Verdict::new(sha.clone(), "c", VerdictState::Success, "yes");
        bench.notes.publish(&verdict).await.unwrap();
    }
    let listed = git(&bench.mirror, &["notes", "--ref=trueup", "list"]);
    assert_eq!(listed.lines().count(), 300);
    for sha in ours {
        assert!(bench.note(sha).ends_with("c success: yes"));
    }
    assert_eq!(bench.note(&theirs[0]), "by hand");
}

#[tokio::test]
async fn what_cannot_have_a_note_is_refused() {
    let bench = Bench::new().await;
    let tree = git(
        &bench.mirror,
        &["rev-parse", &format!("{}^{{tree}}", bench.commit)],
    );
    for (id, part) in [("1".repeat(40), "no commit"), (tree, "is a tree")] {
        let verdict = Verdict::new(id.parse().unwrap(), "c", VerdictState::Success, "x");
        let error = bench.notes.publish(&verdict).await.unwrap_err();
        assert!(
            matches!(&error, ForgeError::Refused(why) if why.contains(part)),
            "{error}"
        );
        assert_eq!(
            bench.notes.newest(&verdict.commit, "c").await.unwrap(),
            None
        );
    }
    let blank = bench.verdict("a b", VerdictState::Success, "x");
    let error = bench.notes.publish(&blank).await.unwrap_err();
    assert!(matches!(error, ForgeError::Refused(_)), "{error}");
    let nowhere = NotesForge::new(&bench.scratch.path.join("nowhere"));
    let fine = bench.verdict("c", VerdictState::Success, "x");
    let error = nowhere.publish(&fine).await.unwrap_err();
    assert!(matches!(error, ForgeError::Later(_)), "{error}");
}

#[tokio::test]
async fn a_person_fetches_them_with_the_printed_line() {
    let bench = Bench::new().await;
    let verdict = bench.verdict("c", VerdictState::Success, "it's true");
    bench.notes.publish(&verdict).await.unwrap();
    let run = || {
        let status = Command::new("sh")
            .args(["-c", &bench.notes.fetch_line()])
            .current_dir(&bench.origin)
            .status()
            .unwrap();
        assert!(status.success());
        git(
            &bench.origin,
            &["log", "-1", "--notes=trueup", "--format=%N"],
        )
    };
    assert!(run().contains("c success: it's true"));
    // After the state directory was lost, the same line brings the new notes.
    fs::remove_dir_all(&bench.mirror).unwrap();
    bench.fetch().await;
    let later = bench.verdict("c", VerdictState::Failure, "again");
    bench.notes.publish(&later).await.unwrap();
    assert!(run().contains("c failure: again"));
}

#[tokio::test]
async fn notes_are_pushed_to_a_ref_of_the_holders_own() {
    let bench = Bench::new().await;
    let origin = bench.scratch.path.join("bare.git");
    git(
        &bench.scratch.path,
        &["clone", "-q", "--bare", "origin", "bare.git"],
    );
    let before = git(&origin, &["for-each-ref"]);
    let name = bench
        .notes
        .push(origin.as_str(), "home lab/1")
        .await
        .unwrap();
    assert_eq!(name, "refs/notes/trueup/home-lab-1");
    assert_eq!(
        git(&origin, &["for-each-ref"]),
        before,
        "nothing to push yet"
    );

    let verdict = bench.verdict("c", VerdictState::Success, "yes");
    bench.notes.publish(&verdict).await.unwrap();
    assert_eq!(git(&origin, &["for-each-ref"]), before, "only when asked");
    for holder in ["home lab/1", "other"] {
        bench.notes.push(origin.as_str(), holder).await.unwrap();
    }
    let note = git(
        &origin,
        &[
            "notes",
            "--ref=trueup/home-lab-1",
            "show",
            bench.commit.as_str(),
        ],
    );
    assert!(note.ends_with("c success: yes"), "{note}");

    fs::write(
        origin.join("hooks/pre-receive"),
        "#!/bin/sh\necho denied by policy >&2\nexit 1\n",
    )
    .unwrap();
    fs::set_permissions(
        origin.join("hooks/pre-receive"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let again = bench.verdict("c", VerdictState::Failure, "no");
    bench.notes.publish(&again).await.unwrap();
    let error = bench
        .notes
        .push(origin.as_str(), "other")
        .await
        .unwrap_err();
    assert!(matches!(error, ForgeError::Refused(_)), "{error}");
    let error = bench.notes.push("/nonexistent", "other").await.unwrap_err();
    assert!(matches!(error, ForgeError::Later(_)), "{error}");
}

#[test]
fn a_long_note_loses_its_oldest_lines() {
    assert_eq!(newest_lines("one\ntwo\nthree\n", 100), "one\ntwo\nthree\n");
    assert_eq!(newest_lines("one\ntwo\nthree\n", 10), "two\nthree\n");
    assert_eq!(newest_lines("one\ntwo\nthree\n", 1), "");
}

#[test]
fn paths_are_quoted_for_the_shell() {
    let line = |path: &str| NotesForge::new(Utf8Path::new(path)).fetch_line();
    assert_eq!(
        line("/var/lib/trueup/mirror.git"),
        "git fetch /var/lib/trueup/mirror.git '+refs/notes/trueup:refs/notes/trueup'"
    );
    assert!(line("/a b/it's").starts_with("git fetch '/a b/it'\\''s' "));
}
