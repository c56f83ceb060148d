//! Git notes in trueup's own mirror: a line per verdict on the commit that it is
//! about, the newest last. No account and no server is needed to read them.
//!
//! Written through `git fast-import`: one process keeps git's own fan-out of notes,
//! and moves the ref only if it still is what the new note was made from (the
//! new tip must contain the old, compared under the ref's lock), so that several
//! writers lose nothing. libgit2 has no such compare for a ref that is being born.

use std::time::Duration;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use trueup_model::id::CommitId;
use trueup_model::port::{Forge, ForgeError, GitError};
use trueup_model::verdict::Verdict;

use super::line;
use crate::git::leftovers::clear_leftovers;
use crate::git_process::{GitEnd, GitProcess};

/// The ref. `git log --notes=trueup` shows it.
pub const NOTES_REF: &str = "refs/notes/trueup";

/// Longest note. Above it the oldest lines go: what matters is the newest of each
/// context, and the store keeps the history.
const NOTE_BYTES_MAX: usize = 512 * 1024;

/// Other writers win this often at most before we come back later.
const TRIES_MAX: u32 = 20;
/// Waited before another try, once more for each try so far.
const TRY_AGAIN: Duration = Duration::from_millis(5);

/// A push to the origin, when asked for.
const PUSH_LIMIT: Duration = Duration::from_secs(25);

/// Notes in the mirror.
#[derive(Debug)]
pub struct NotesForge {
    mirror: Utf8PathBuf,
}

impl NotesForge {
    /// Notes in this bare repository.
    pub fn new(mirror: &Utf8Path) -> Self {
        Self {
            mirror: mirror.to_owned(),
        }
    }

    /// The exact command by which a person gets the notes into a clone, to be shown by
    /// `git log --notes=trueup`.
    pub fn fetch_line(&self) -> String {
        format!(
            "git fetch {} '+{NOTES_REF}:{NOTES_REF}'",
            quoted(self.mirror.as_str())
        )
    }

    /// Pushes the notes to the origin, to a ref of this holder's own, so that several
    /// holders never race. Only where the host configuration asks for it: the right
    /// to push is the power to change the fleet. The ref that was written.
    pub async fn push(&self, url: &str, holder: &str) -> Result<String, ForgeError> {
        let name = pushed_ref(holder);
        // Another history stands there after the state directory was lost: the ref
        // is this holder's alone, and its notes are made anew.
        let refspec = format!("+{NOTES_REF}:{name}");
        let args = ["push", "--quiet", "--no-verify", "--", url, &refspec];
        let process = GitProcess {
            limit: PUSH_LIMIT,
            ..GitProcess::short(&self.mirror, &args)
        };
        let end = process.run().await.map_err(|error| later(&error))?;
        if end.is_success() {
            return Ok(name);
        }
        let words = end.words();
        // Asked while there is no verdict yet.
        if words.contains("does not match any") {
            return Ok(name);
        }
        let refused = words.contains("rejected") || words.contains("denied");
        Err(if refused {
            ForgeError::Refused(words)
        } else {
            ForgeError::Later(words)
        })
    }

    async fn git(&self, args: &[&str]) -> Result<GitEnd, ForgeError> {
        let process = GitProcess {
            stdout_max: NOTE_BYTES_MAX * 2,
            ..GitProcess::short(&self.mirror, args)
        };
        process.run().await.map_err(|error| later(&error))
    }

    /// The commit of the notes, and the note of a commit at it or later.
    async fn note(&self, commit: &CommitId) -> Result<(Option<String>, String), ForgeError> {
        let tip = format!("{NOTES_REF}^{{commit}}");
        let end = self
            .git(&["rev-parse", "--quiet", "--verify", &tip])
            .await?;
        if end.code == Some(1) && end.stderr.is_empty() {
            return Ok((None, String::new()));
        }
        let tip = ok("rev-parse", end)?.text();
        let name = format!("--ref={NOTES_REF}");
        let end = self.git(&["notes", &name, "list", commit.as_str()]).await?;
        if end.code == Some(1) && end.stderr.contains("no note found") {
            return Ok((Some(tip), String::new()));
        }
        let blob = ok("notes", end)?.text();
        let end = self.git(&["cat-file", "blob", &blob]).await?;
        let text = ok("cat-file", end)?.stdout;
        Ok((Some(tip), String::from_utf8_lossy(&text).into_owned()))
    }

    async fn check_known(&self, commit: &CommitId) -> Result<(), ForgeError> {
        let end = self.git(&["cat-file", "-t", commit.as_str()]).await?;
        match (end.is_success(), end.text().as_str()) {
            (true, "commit") => Ok(()),
            (true, other) => Err(ForgeError::Refused(format!(
                "{commit} is a {other}, not a commit"
            ))),
            // 128 is git's code for everything that dies, a damaged mirror too.
            _ if end.stderr.contains("could not get object info") => Err(ForgeError::Refused(
                format!("the mirror has no commit {commit}"),
            )),
            _ => Err(ForgeError::Later(end.words())),
        }
    }

    async fn append(&self, verdict: &Verdict, at: Timestamp) -> Result<(), ForgeError> {
        line::check(verdict).map_err(|why| ForgeError::Refused(why.to_owned()))?;
        self.check_known(&verdict.commit).await?;
        let mut why = String::new();
        for tries in 0..TRIES_MAX {
            let (tip, mut note) = self.note(&verdict.commit).await?;
            if newest_in(&note, &verdict.commit, &verdict.context).as_ref() == Some(verdict) {
                // A repeat after a lost reply.
                return Ok(());
            }
            if !note.is_empty() && !note.ends_with('\n') {
                note.push('\n');
            }
            note.push_str(&line::write(verdict, at));
            note.push('\n');
            let note = newest_lines(&note, NOTE_BYTES_MAX);
            let stream = import(&verdict.commit, tip.as_deref(), note, at);
            let process = GitProcess {
                stdin: stream.as_bytes(),
                ..GitProcess::short(&self.mirror, &["fast-import", "--quiet", "--done"])
            };
            let end = process.run().await.map_err(|error| later(&error))?;
            if end.is_success() {
                return Ok(());
            }
            why = end.words();
            let lost_race = why.contains("Not updating") || why.contains("cannot lock ref");
            if !lost_race {
                return Err(ForgeError::Later(why));
            }
            if why.contains("File exists") {
                clear_leftovers(&self.mirror);
            }
            tokio::time::sleep(TRY_AGAIN * tries.saturating_add(1)).await;
        }
        Err(ForgeError::Later(why))
    }
}

#[async_trait]
impl Forge for NotesForge {
    async fn newest(
        &self,
        commit: &CommitId,
        context: &str,
    ) -> Result<Option<Verdict>, ForgeError> {
        let (_, note) = self.note(commit).await?;
        Ok(newest_in(&note, commit, context))
    }

    async fn publish(&self, verdict: &Verdict) -> Result<(), ForgeError> {
        self.append(verdict, Timestamp::now()).await
    }
}

fn newest_in(note: &str, commit: &CommitId, context: &str) -> Option<Verdict> {
    note.lines()
        .rev()
        .filter_map(|text| line::read(commit, text))
        .find(|verdict| verdict.context == context)
}

/// The end of a note, whole lines, at most so many bytes.
fn newest_lines(note: &str, bytes_max: usize) -> &str {
    let mut rest = note;
    while rest.len() > bytes_max {
        match rest.split_once('\n') {
            Some((_, after)) => rest = after,
            None => break,
        }
    }
    rest
}

/// The stream that makes a new notes commit (git-fast-import(1)).
fn import(commit: &CommitId, tip: Option<&str>, note: &str, at: Timestamp) -> String {
    let from = tip.map_or_else(String::new, |tip| format!("from {tip}\n"));
    let message = "trueup: a verdict\n";
    format!(
        "commit {NOTES_REF}\n\
         committer trueup <trueup@localhost> {} +0000\n\
         data {}\n{message}{from}\
         N inline {commit}\n\
         data {}\n{note}\n\
         done\n",
        at.as_second(),
        message.len(),
        note.len(),
    )
}

fn ok(what: &str, end: GitEnd) -> Result<GitEnd, ForgeError> {
    if end.is_success() {
        Ok(end)
    } else {
        Err(ForgeError::Later(format!("git {what}: {}", end.words())))
    }
}

fn later(error: &GitError) -> ForgeError {
    ForgeError::Later(error.to_string())
}

/// The ref of a holder on the origin. A holder's name is free text; a ref's is not.
fn pushed_ref(holder: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' || c == '_' {
            c
        } else {
            '-'
        }
    };
    let name: String = holder.chars().take(64).map(plain).collect();
    let name = if name.is_empty() { "holder" } else { &name };
    format!("{NOTES_REF}/{name}")
}

/// A word for a POSIX shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests;
