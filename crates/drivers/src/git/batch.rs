//! The files of one commit, out of the object database of a clone that somebody else made. Nothing
//! is checked out, nothing is fetched, and no hook, filter or alias of the repository runs:
//! `rev-parse`, `ls-tree` and `cat-file` know none. Works on any clone that the installed git can
//! read (shallow, worktree, reftable); what a partial clone lacks is an error, since fetching it
//! would be network access.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use trueup_model::id::CommitId;
use trueup_model::tree::{BYTES_MAX, ENTRIES_MAX, FILE_BYTES_MAX, Tree, TreeEntry};

/// Reading a tree at the limits below takes seconds on a slow disk; more is a hung file system.
const GIT_TIMEOUT: Duration = Duration::from_secs(60);
/// What `ls-tree` may answer: the most entries with long paths.
const LISTING_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How much of git's own words is kept.
const STDERR_BYTES_MAX: u64 = 4096;
/// One line of `cat-file --batch`: a name, a type and a size.
const HEADER_BYTES_MAX: u64 = 256;

/// One commit's files.
#[derive(Debug)]
pub struct CommitTree {
    /// The commit that the revision names.
    pub commit: CommitId,
    /// Its files.
    pub tree: Tree,
}

/// Why the files of a commit cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// `git` cannot be run.
    #[error("cannot run git: is it installed?")]
    Spawn(#[source] std::io::Error),
    /// The folder is no repository, or git refuses it.
    #[error("git cannot use {dir} as a repository: {stderr}")]
    Repository {
        /// The folder.
        dir: Utf8PathBuf,
        /// git's words.
        stderr: String,
    },
    /// No commit has this name.
    #[error("{dir} has no commit `{rev}`")]
    UnknownRevision {
        /// The repository.
        dir: Utf8PathBuf,
        /// The revision.
        rev: String,
    },
    /// The commit's id is not SHA-1.
    #[error("commit {id} of {dir} is not named by SHA-1; such repositories are not supported")]
    NotSha1 {
        /// The repository.
        dir: Utf8PathBuf,
        /// Its id.
        id: String,
    },
    /// git said no while it read.
    #[error("git failed to {doing}: {stderr}")]
    Git {
        /// What it was to do.
        doing: &'static str,
        /// git's words.
        stderr: String,
    },
    /// git's answer is not understood.
    #[error("git gave an answer to {doing} that is not understood")]
    Answer {
        /// What it was to do.
        doing: &'static str,
    },
    /// An object is missing: a partial clone, or damage.
    #[error("{path} is not in the object database: fetch it, or use a full clone")]
    Missing {
        /// The file.
        path: String,
    },
    /// A limit is exceeded.
    #[error("the commit holds more than {limit} {what}")]
    TooLarge {
        /// The limit.
        limit: usize,
        /// Of what.
        what: &'static str,
    },
    /// It takes too long.
    #[error("git did not {doing} within {} s", GIT_TIMEOUT.as_secs())]
    Timeout {
        /// What it was to do.
        doing: &'static str,
    },
    /// The pipe to git broke.
    #[error("the pipe to git broke while it was to {doing}")]
    Pipe {
        /// What it was to do.
        doing: &'static str,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

/// Reads all files of `rev` in the repository at `dir`.
///
/// # Errors
/// The repository, the commit or an object of it cannot be read, or a limit is exceeded.
pub async fn read_commit(dir: &Utf8Path, rev: &str) -> Result<CommitTree, BatchError> {
    let commit = resolve(dir, rev).await?;
    let (mut tree, blobs) = list(dir, &commit).await?;
    let doing = "read the files of the commit";
    let reading = read_blobs(dir, blobs, &mut tree);
    timeout(GIT_TIMEOUT, reading)
        .await
        .map_err(|_| BatchError::Timeout { doing })??;
    Ok(CommitTree { commit, tree })
}

/// The commit that a revision names.
///
/// # Errors
/// There is none, or the repository cannot be read.
pub async fn resolve(dir: &Utf8Path, rev: &str) -> Result<CommitId, BatchError> {
    let name = format!("{rev}^{{commit}}");
    let doing = "resolve a revision";
    let mut command = git(dir);
    command.args([
        "rev-parse",
        "--verify",
        "--quiet",
        "--end-of-options",
        &name,
    ]);
    let output = run(command, doing, HEADER_BYTES_MAX).await?;
    let text = String::from_utf8_lossy(&output.stdout);
    let id = text.trim();
    if !output.success {
        return Err(if output.stderr.is_empty() {
            BatchError::UnknownRevision {
                dir: dir.to_owned(),
                rev: rev.to_owned(),
            }
        } else {
            BatchError::Repository {
                dir: dir.to_owned(),
                stderr: output.stderr,
            }
        });
    }
    id.parse().map_err(|_| BatchError::NotSha1 {
        dir: dir.to_owned(),
        id: id.to_owned(),
    })
}

/// `git`, unable to ask, to fetch, or to be led astray by the environment it is called in.
fn git(dir: &Utf8Path) -> Command {
    let mut command = Command::new("git");
    command
        .arg("--no-replace-objects")
        .args(["-c", "protocol.allow=never", "-c", "core.fsmonitor=false"])
        .args(["-c", "submodule.recurse=false"])
        .args(["-C", dir.as_str()])
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env("GIT_NO_LAZY_FETCH", "1")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_TERMINAL_PROMPT", "0")
        // Not LC_ALL: that would change how file names are read.
        .env("LC_MESSAGES", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

struct Output {
    success: bool,
    stdout: Vec<u8>,
    stderr: String,
}

async fn run(
    mut command: Command,
    doing: &'static str,
    stdout_max: u64,
) -> Result<Output, BatchError> {
    let mut child = command.spawn().map_err(BatchError::Spawn)?;
    let answer = async {
        let (stdout, stderr) = tokio::join!(
            take(child.stdout.take(), stdout_max),
            words(child.stderr.take())
        );
        let stdout = stdout.map_err(|source| BatchError::Pipe { doing, source })?;
        if u64::try_from(stdout.len()).unwrap_or(u64::MAX) > stdout_max {
            return Err(BatchError::TooLarge {
                limit: ENTRIES_MAX,
                what: "entries",
            });
        }
        let status = child
            .wait()
            .await
            .map_err(|source| BatchError::Pipe { doing, source })?;
        Ok(Output {
            success: status.success(),
            stdout,
            stderr,
        })
    };
    timeout(GIT_TIMEOUT, answer)
        .await
        .map_err(|_| BatchError::Timeout { doing })?
}

async fn take(
    from: Option<impl AsyncReadExt + Unpin>,
    max: u64,
) -> Result<Vec<u8>, std::io::Error> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        from.take(max + 1).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// git's own words, on one line.
async fn words(from: Option<impl AsyncReadExt + Unpin>) -> String {
    let bytes = take(from, STDERR_BYTES_MAX).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines.join("; ").trim_start_matches("fatal: ").to_owned()
}

/// Object names of the files to be read, by path.
type Blobs = BTreeMap<String, String>;

async fn list(dir: &Utf8Path, commit: &CommitId) -> Result<(Tree, Blobs), BatchError> {
    let doing = "list the files of the commit";
    let mut command = git(dir);
    command.args(["ls-tree", "-r", "-z", "-l", "--full-tree", commit.as_str()]);
    let output = run(command, doing, LISTING_BYTES_MAX).await?;
    if !output.success {
        return Err(BatchError::Git {
            doing,
            stderr: output.stderr,
        });
    }
    let mut tree = Tree::default();
    let mut blobs = Blobs::new();
    let mut total = 0;
    for line in output
        .stdout
        .split(|byte| *byte == 0)
        .filter(|line| !line.is_empty())
    {
        let entry = parse_line(line).ok_or(BatchError::Answer { doing })?;
        let Ok(path) = String::from_utf8(entry.path.to_vec()) else {
            tree.odd_names
                .push(String::from_utf8_lossy(entry.path).into_owned());
            continue;
        };
        if tree.entries.len() >= ENTRIES_MAX {
            return Err(BatchError::TooLarge {
                limit: ENTRIES_MAX,
                what: "entries",
            });
        }
        let found = match entry.mode {
            "120000" => TreeEntry::Symlink,
            mode if !mode.starts_with("100") => TreeEntry::Other,
            _ => {
                if Tree::wants(&path) && entry.bytes <= FILE_BYTES_MAX {
                    total += entry.bytes;
                    blobs.insert(path.clone(), entry.object.to_owned());
                }
                TreeEntry::Unread {
                    bytes: u64::try_from(entry.bytes).unwrap_or(u64::MAX),
                }
            }
        };
        tree.entries.insert(path, found);
    }
    if total > BYTES_MAX {
        return Err(BatchError::TooLarge {
            limit: BYTES_MAX,
            what: "bytes of documents",
        });
    }
    Ok((tree, blobs))
}

struct Line<'a> {
    mode: &'a str,
    object: &'a str,
    bytes: usize,
    path: &'a [u8],
}

/// `<mode> SP <type> SP <object> SP <size> TAB <path>`; the size is padded, and `-` where there is
/// none.
fn parse_line(line: &[u8]) -> Option<Line<'_>> {
    let tab = line.iter().position(|byte| *byte == b'\t')?;
    let mut words = std::str::from_utf8(line.get(..tab)?)
        .ok()?
        .split_whitespace();
    let (mode, _, object) = (words.next()?, words.next()?, words.next()?);
    let bytes = words.next()?.parse().unwrap_or(0);
    Some(Line {
        mode,
        object,
        bytes,
        path: line.get(tab + 1..)?,
    })
}

async fn read_blobs(dir: &Utf8Path, blobs: Blobs, tree: &mut Tree) -> Result<(), BatchError> {
    if blobs.is_empty() {
        return Ok(());
    }
    let doing = "read the files of the commit";
    let pipe = |source| BatchError::Pipe { doing, source };
    let mut command = git(dir);
    command
        .args(["cat-file", "--batch"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null());
    let mut child: Child = command.spawn().map_err(BatchError::Spawn)?;
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(BatchError::Answer { doing });
    };
    let mut stdout = BufReader::new(stdout);
    for (path, object) in blobs {
        stdin
            .write_all(format!("{object}\n").as_bytes())
            .await
            .map_err(pipe)?;
        stdin.flush().await.map_err(pipe)?;
        let mut header = String::new();
        (&mut stdout)
            .take(HEADER_BYTES_MAX)
            .read_line(&mut header)
            .await
            .map_err(pipe)?;
        let mut words = header.split_whitespace();
        let (name, kind) = (words.next(), words.next());
        if kind == Some("missing") {
            return Err(BatchError::Missing { path });
        }
        let size = words.next().and_then(|size| size.parse::<usize>().ok());
        let (Some("blob"), Some(size), true) = (kind, size, name == Some(object.as_str())) else {
            return Err(BatchError::Answer { doing });
        };
        if size > FILE_BYTES_MAX {
            return Err(BatchError::Answer { doing });
        }
        // The content and the line break behind it.
        let mut bytes = vec![0; size + 1];
        stdout.read_exact(&mut bytes).await.map_err(pipe)?;
        bytes.truncate(size);
        tree.entries.insert(path, TreeEntry::File(bytes.into()));
    }
    drop(stdin);
    child.wait().await.map_err(pipe)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command as StdCommand;

    use camino::{Utf8Path, Utf8PathBuf};
    use trueup_model::tree::TreeEntry;

    use super::{BatchError, read_commit};

    fn git(dir: &Utf8Path, args: &[&str]) {
        let status = StdCommand::new("git")
            .args([
                "-C",
                dir.as_str(),
                "-c",
                "user.name=t",
                "-c",
                "user.email=t@example.org",
            ])
            .args(args)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "git {args:?}");
    }

    fn repository() -> (tempfile::TempDir, Utf8PathBuf) {
        use std::os::unix::ffi::OsStrExt;
        let folder = tempfile::tempdir().unwrap();
        let dir = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
        git(&dir, &["init", "-q", "-b", "main"]);
        std::fs::create_dir_all(dir.join("a b/ü")).unwrap();
        std::fs::write(dir.join("a b/ü/x.yaml"), "a: 1\n").unwrap();
        std::fs::write(dir.join("empty.yaml"), "").unwrap();
        std::fs::write(dir.join("big.yaml"), vec![b'#'; 6 * 1024 * 1024]).unwrap();
        std::fs::write(dir.join("script.sh"), "exit 1\n").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.join("link.yaml")).unwrap();
        let odd = std::ffi::OsStr::from_bytes(b"odd\xff.yaml");
        std::fs::write(folder.path().join(odd), "a: 1\n").unwrap();
        // A filter and a hook that would leave a trace.
        std::fs::write(dir.join(".gitattributes"), "*.yaml filter=evil\n").unwrap();
        git(&dir, &["add", "-A"]);
        git(&dir, &["commit", "-q", "-m", "one"]);
        let trace = format!("touch {dir}/trace; cat");
        for key in [
            "filter.evil.smudge",
            "core.fsmonitor",
            "core.pager",
            "alias.cat-file",
        ] {
            git(&dir, &["config", key, &trace]);
        }
        (folder, dir)
    }

    #[tokio::test]
    async fn a_commit_is_read_without_running_anything_of_it() {
        let (_folder, dir) = repository();
        let read = read_commit(&dir, "main").await.unwrap();
        assert_eq!(read.commit.as_str().len(), 40);
        let file = |text: &str| TreeEntry::File(text.as_bytes().into());
        let entries = &read.tree.entries;
        assert_eq!(entries["a b/ü/x.yaml"], file("a: 1\n"));
        assert_eq!(entries["empty.yaml"], file(""));
        assert_eq!(
            entries["big.yaml"],
            TreeEntry::Unread {
                bytes: 6 * 1024 * 1024
            }
        );
        assert_eq!(entries["script.sh"], TreeEntry::Unread { bytes: 7 });
        assert_eq!(entries["link.yaml"], TreeEntry::Symlink);
        assert_eq!(read.tree.odd_names, ["odd\u{fffd}.yaml"]);
        assert!(!dir.join("trace").exists());
        let mirror = crate::git::objects::read_tree(&dir.join(".git"), "main").unwrap();
        assert_eq!(mirror.entries, *entries);
        assert_eq!(mirror.odd_names, read.tree.odd_names);
        // From a folder inside, the whole commit all the same.
        let inside = read_commit(&dir.join("a b"), "HEAD").await.unwrap();
        assert_eq!(inside.tree.entries.len(), entries.len());
    }

    #[tokio::test]
    async fn what_is_not_there_is_named() {
        let (folder, dir) = repository();
        for rev in ["nothing", "--help", "-x", "main:empty.yaml"] {
            let error = read_commit(&dir, rev).await.unwrap_err();
            let named = matches!(
                error,
                BatchError::UnknownRevision { .. } | BatchError::Repository { .. }
            );
            assert!(named, "{rev}: {error:?}");
        }
        let error = read_commit(Utf8Path::new("/nonexistent"), "main")
            .await
            .unwrap_err();
        assert!(matches!(error, BatchError::Repository { .. }), "{error:?}");
        let objects = folder.path().join(".git/objects");
        let blob = read_commit(&dir, "main").await.unwrap();
        drop(blob);
        // `git hash-object` of "a: 1\n".
        let lost = StdCommand::new("git")
            .args(["-C", dir.as_str(), "rev-parse", "main:a b/ü/x.yaml"])
            .output()
            .unwrap();
        let id = String::from_utf8(lost.stdout).unwrap();
        std::fs::remove_file(objects.join(&id[..2]).join(id[2..].trim())).unwrap();
        let error = read_commit(&dir, "main").await.unwrap_err();
        assert!(
            matches!(error, BatchError::Missing { .. } | BatchError::Git { .. }),
            "{error:?}"
        );
    }
}
