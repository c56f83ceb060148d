//! The rig of a story: a Gitea, a clone of the config repo, and trueup.

mod proxy;
mod witness;

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use trueup_bed::Gitea;
use trueup_bed::wait::wait_for;

pub(crate) use proxy::Proxy;
pub(crate) use witness::Witness;

/// The repository on the Gitea.
pub(crate) const REPO: &str = "fleet";
/// The secret of the webhook; searched for like the token.
pub(crate) const HOOK_SECRET: &str = "canary-hook-secret-51c7";
/// Everything is on one host, but other tests compile beside it.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Between two looks at the Gitea.
const LOOK_EVERY: Duration = Duration::from_millis(60);

const FLEET: &str = "apiVersion: trueup.dev/v1alpha1
kind: Fleet
metadata: {name: home}
spec:
  description: \"0\"
";

/// Everything a story stands on. Dropping it ends and removes it.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) gitea: Gitea,
    dir: TempDir,
    child: Option<Child>,
    /// The token that trueup has.
    pub(crate) token: String,
    pub(crate) hook_port: u16,
}

impl Drop for Rig {
    fn drop(&mut self) {
        // An error has been told by the story already.
        drop(self.kill());
    }
}

impl Rig {
    /// A Gitea with an empty repository, a clone with a fleet, and no trueup yet.
    pub(crate) fn build() -> Result<Self> {
        let gitea = Gitea::start()?;
        gitea.new_repo(REPO)?;
        let token = gitea.new_token("trueup", "write:repository")?;
        let rig = Self {
            gitea,
            dir: tempfile::tempdir()?,
            child: None,
            token,
            hook_port: free_port()?,
        };
        rig.put_token(&rig.token, 0o600)?;
        rig.put_secret("hook.secret", HOOK_SECRET, 0o600)?;
        fs::create_dir(rig.path("clone"))?;
        rig.git(&["init", "-q", "-b", "main"])?;
        rig.git(&["remote", "add", "gitea", &rig.gitea.push_url(REPO)])?;
        let bare = rig.path("origin.git").display().to_string();
        rig.git(&["init", "-q", "--bare", "-b", "main", &bare])?;
        rig.git(&["remote", "add", "bare", &bare])?;
        rig.write("fleet.yaml", FLEET)?;
        Ok(rig)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn put_token(&self, token: &str, mode: u32) -> Result<()> {
        self.put_secret("gitea.token", token, mode)
    }

    fn put_secret(&self, name: &str, text: &str, mode: u32) -> Result<()> {
        let path = self.path(name);
        fs::write(&path, format!("{text}\n"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    pub(crate) fn write(&self, path: &str, text: &str) -> Result<()> {
        let file = self.path("clone").join(path);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)?;
        }
        Ok(fs::write(file, text)?)
    }

    /// Another content of the fleet's document, so that there is something to commit.
    pub(crate) fn change(&self, word: &str) -> Result<()> {
        self.write(
            "fleet.yaml",
            &FLEET.replace("\"0\"", &format!("\"{word}\"")),
        )
    }

    pub(crate) fn git(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new("git");
        command
            .args(["-c", "user.name=dev", "-c", "user.email=dev@example.org"])
            .args(["-c", "commit.gpgsign=false", "-C"])
            .arg(self.path("clone"))
            .args(args)
            .env("GIT_TERMINAL_PROMPT", "0");
        run(&mut command)
    }

    /// Commits everything; the commit.
    pub(crate) fn commit(&self, message: &str) -> Result<String> {
        self.git(&["add", "-A"])?;
        self.git(&["commit", "-q", "--allow-empty", "-m", message])?;
        self.git(&["rev-parse", "HEAD"])
    }

    /// Pushes HEAD to a branch of `gitea` or `bare`.
    pub(crate) fn push(&self, to: &str, branch: &str) -> Result<()> {
        let refspec = format!("+HEAD:refs/heads/{branch}");
        self.git(&["push", "-q", to, &refspec]).map(drop)
    }

    /// Writes the host configuration. `origin` is what is tracked, `url` where the
    /// statuses go, `more` is appended.
    pub(crate) fn configure(&self, origin: &str, url: &str, more: &str) -> Result<()> {
        let at = |name: &str| self.path(name).display().to_string();
        let text = format!(
            "repo: {{url: \"{origin}\", branch: main}}
fleet: home
holder: tester
stateDir: {}
forge:
  link: \"https://ci.example.org/{{commit}}\"
  gitea: {{url: \"{url}\", repo: {}/{REPO}, tokenFile: {}}}
webhook: {{listen: \"127.0.0.1:{}\", secretFile: {}, path: /hook}}
{more}",
            at("state"),
            self.gitea.user(),
            at("gitea.token"),
            self.hook_port,
            at("hook.secret"),
        );
        Ok(fs::write(self.path("trueup.yaml"), text)?)
    }

    /// The bare repository beside the Gitea, which is there when the Gitea is not.
    pub(crate) fn bare(&self) -> String {
        self.path("origin.git").display().to_string()
    }

    /// trueup with arguments.
    pub(crate) fn trueup(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trueup"));
        command
            .arg("--config")
            .arg(self.path("trueup.yaml"))
            .args(args)
            .stdin(Stdio::null());
        command
    }

    /// Starts the loop. Its logs are as loud as they get: they are searched.
    pub(crate) fn start(&mut self) -> Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("trueup.log"))?;
        let child = self
            .trueup(&["run"])
            .env("TRUEUP_LOG", "trace")
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.child = Some(child);
        eventually("the loop's socket", SOON, || {
            Ok(self.path("state/trueup.sock").exists().then_some(()))
        })
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
            drop(fs::remove_file(self.path("state/trueup.sock")));
        }
        Ok(())
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("trueup.log")).unwrap_or_default()
    }

    /// What `status` says to people.
    pub(crate) fn status(&self) -> Result<String> {
        run(&mut self.trueup(&["status"]))
    }

    /// The newest status of a context (without `trueup/home/`) on the Gitea.
    pub(crate) fn newest(&self, commit: &str, context: &str) -> Result<Option<Value>> {
        let context = format!("trueup/home/{context}");
        let mut all = self.gitea.statuses(REPO, commit)?;
        all.retain(|status| status["context"] == context.as_str());
        Ok(all.pop())
    }

    /// Waits until a context has this state.
    pub(crate) fn wait_state(&self, commit: &str, context: &str, state: &str) -> Result<Value> {
        let what = format!("{context} {state} on {commit}");
        eventually(&what, SOON, || {
            let newest = self.newest(commit, context)?;
            Ok(newest.filter(|status| status["status"] == state))
        })
        .with_context(|| self.log_end())
    }

    /// What was decided, as the notes have it: the newest line of each context.
    pub(crate) fn decided(&self, commit: &str) -> Result<Vec<(String, String, String)>> {
        let mirror = self.path("state/mirror.git");
        let mut command = Command::new("git");
        command.arg("--git-dir").arg(&mirror);
        command.args(["notes", "--ref=trueup", "show", commit]);
        let mut newest: Vec<(String, String, String)> = Vec::new();
        for line in run(&mut command)?.lines() {
            let (_, rest) = line.split_once(' ').context("a line of a note")?;
            let (context, rest) = rest.split_once(' ').context("a context")?;
            let (state, text) = rest.split_once(": ").context("a state")?;
            newest.retain(|(known, ..)| known != context);
            newest.push((context.to_owned(), state.to_owned(), text.to_owned()));
        }
        Ok(newest)
    }

    /// Waits until the newest of each context on the Gitea is the last decided.
    pub(crate) fn wait_true(&self, commit: &str, limit: Duration) -> Result<()> {
        let look = || {
            let decided = self.decided(commit)?;
            let all = self.gitea.statuses(REPO, commit)?;
            let same = decided.iter().all(|(context, state, text)| {
                let of = |status: &&Value| status["context"] == context.as_str();
                all.iter().rfind(of).is_some_and(|status| {
                    status["status"] == state.as_str() && status["description"] == text.as_str()
                })
            });
            Ok((same && !decided.is_empty()).then_some(()))
        };
        eventually(&format!("the last words on {commit}"), limit, look)
            .with_context(|| self.log_end())
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let mut lines: Vec<&str> = log
            .lines()
            .filter(|line| line.contains("trueup") && !line.contains("TRACE"))
            .collect();
        let skip = lines.len().saturating_sub(30);
        lines.drain(..skip);
        lines.join("\n")
    }

    /// Neither token nor secret stands in any log, in the state directory or in the
    /// Gitea's log.
    pub(crate) fn search_secrets(&self) -> Result<()> {
        let mut places = vec![("the Gitea's log".to_owned(), self.gitea.log().into_bytes())];
        files(&self.path("state"), &mut places)?;
        places.push(("trueup.log".to_owned(), self.log().into_bytes()));
        places.push(("status".to_owned(), self.status()?.into_bytes()));
        ensure!(places.len() > 5, "too little was searched");
        for secret in [self.token.as_str(), HOOK_SECRET] {
            ensure!(secret.len() > 20, "no secret: {secret:?}");
            for (name, bytes) in &places {
                let found = bytes
                    .windows(secret.len())
                    .any(|part| part == secret.as_bytes());
                ensure!(!found, "a secret stands in {name}");
            }
        }
        Ok(())
    }
}

fn files(dir: &Path, out: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            files(&entry.path(), out)?;
        } else if kind.is_file() {
            // git may remove its temporary files meanwhile.
            if let Ok(bytes) = fs::read(entry.path()) {
                out.push((entry.path().display().to_string(), bytes));
            }
        }
    }
    Ok(())
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Runs a command that must succeed; its output.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "{:?}: {}{}",
        command.get_program(),
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Looks until `look` yields a value; the last error is told when the time is over.
pub(crate) fn eventually<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let mut last = None;
    let mut next = Instant::now();
    let found = wait_for(what, limit, || {
        // A look is some requests: not every 20 ms, which would slow down what is measured.
        if Instant::now() < next {
            return None;
        }
        let found = look().unwrap_or_else(|error| {
            last = Some(error);
            None
        });
        next = Instant::now() + LOOK_EVERY;
        found
    });
    found.map_err(|error| match last {
        Some(last) => error.context(format!("{last:#}")),
        None => error,
    })
}

/// Time since an instant, in the words of a measurement.
pub(crate) fn took(what: &str, begun: Instant) -> Duration {
    let took = begun.elapsed();
    eprintln!("{what}: {} ms", took.as_millis());
    took
}
