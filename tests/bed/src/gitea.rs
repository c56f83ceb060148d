//! A real Gitea on the test host's loopback (tests/bed/install/gitea), with an
//! administrator `ops`. It runs as `nobody`: it refuses to run as root.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{
    cache::Cache,
    control::Program,
    gitea::api::{Api, Reply},
    run::Run,
    wait::wait_until,
};

mod api;

/// Healthy in 0.6 s on an idle host.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Debian's `nobody` and `nogroup`.
const NOBODY: u32 = 65534;
const USER: &str = "ops";

/// A running Gitea. Dropping it removes it.
#[derive(Debug)]
pub struct Gitea {
    program: Program,
    home: PathBuf,
    address: SocketAddr,
    /// Of the administrator, with every scope.
    token: String,
    _run: Run,
}

impl Gitea {
    /// Starts one; ready when this returns.
    pub fn start() -> Result<Self> {
        let installed = Cache::locate().gitea()?;
        let run = Run::begin()?;
        run.group("gitea").create()?;
        // Nobody else's files are in this run, and nobody may read its own below.
        fs::set_permissions(run.disks(), fs::Permissions::from_mode(0o711))?;
        let home = run.disks().join("gitea");
        fs::create_dir(&home)?;
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700))?;
        chown(&home, Some(NOBODY), Some(NOBODY))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let config = home.join("app.ini");
        fs::write(&config, app_ini(&home, &installed, address))?;
        chown(&config, Some(NOBODY), Some(NOBODY))?;

        let gitea = installed.join("gitea");
        admin(&gitea, &home, &["migrate"])?;
        let email = format!("{USER}@example.org");
        let user = ["admin", "user", "create", "--admin", "--username", USER];
        let words = [
            "--random-password",
            "--must-change-password=false",
            "--email",
            &email,
        ];
        admin(&gitea, &home, &[user.as_slice(), &words].concat())?;
        let words = [
            "admin",
            "user",
            "generate-access-token",
            "--raw",
            "--scopes",
            "all",
        ];
        let named = ["--username", USER, "--token-name", "bed"];
        let token = admin(&gitea, &home, &[words.as_slice(), &named].concat())?;

        let program = Program::new(
            "gitea",
            words_of(&gitea, &home, &["web"]),
            run.home().join("gitea.log"),
            run.group("gitea"),
            run.ledger(),
        );
        let gitea = Self {
            program,
            home,
            address,
            token: token.lines().last().unwrap_or_default().trim().to_owned(),
            _run: run,
        };
        gitea.power_on()?;
        Ok(gitea)
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The administrator's name; repositories of the tests are hers.
    pub fn user(&self) -> &'static str {
        USER
    }

    /// A new token with these scopes (`write:repository`).
    pub fn new_token(&self, name: &str, scopes: &str) -> Result<String> {
        let gitea = Cache::locate().gitea()?.join("gitea");
        let words = ["admin", "user", "generate-access-token", "--raw"];
        let named = ["--username", USER, "--token-name", name, "--scopes", scopes];
        let said = admin(&gitea, &self.home, &[words.as_slice(), &named].concat())?;
        Ok(said.lines().last().unwrap_or_default().trim().to_owned())
    }

    /// An empty repository of the administrator's, which everybody may read.
    pub fn new_repo(&self, name: &str) -> Result<()> {
        let body = json!({ "name": name, "default_branch": "main", "private": false });
        self.ask("POST", "user/repos", Some(&body))?
            .expect(201)
            .map(drop)
    }

    /// A URL that `git` can push to, with the token in it.
    pub fn push_url(&self, repo: &str) -> String {
        format!(
            "http://{USER}:{}@{}/{USER}/{repo}.git",
            self.token, self.address
        )
    }

    /// A URL to fetch from, without any secret.
    pub fn fetch_url(&self, repo: &str) -> String {
        format!("{}/{USER}/{repo}.git", self.url())
    }

    /// Tells `url` of every push, signed with `secret`.
    pub fn new_hook(&self, repo: &str, url: &str, secret: &str) -> Result<()> {
        let config = json!({ "url": url, "content_type": "json", "secret": secret });
        let body = json!({ "type": "gitea", "active": true, "events": ["push"], "config": config });
        self.ask("POST", &format!("repos/{USER}/{repo}/hooks"), Some(&body))?
            .expect(201)
            .map(drop)
    }

    /// All statuses of a commit, as they were added, oldest first.
    pub fn statuses(&self, repo: &str, commit: &str) -> Result<Vec<Value>> {
        let mut all = Vec::new();
        for page in 1.. {
            let path = format!("repos/{USER}/{repo}/statuses/{commit}?limit=50&page={page}");
            let found = self.ask("GET", &path, None)?.expect(200)?;
            let found = found.as_array().cloned().unwrap_or_default();
            if found.is_empty() {
                break;
            }
            all.extend(found);
        }
        all.sort_by_key(|status| status["id"].as_i64());
        Ok(all)
    }

    /// Asks its API as the administrator; `path` is below `/api/v1/`.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Reply> {
        Api {
            address: self.address,
            token: &self.token,
        }
        .ask(method, path, body)
    }

    /// SIGKILL: connections break, nothing listens.
    pub fn power_off(&self) -> Result<()> {
        self.program.kill()
    }

    /// Starts it again on the same port.
    pub fn power_on(&self) -> Result<()> {
        self.program.start()?;
        wait_until("Gitea to answer", READY_LIMIT, || {
            let healthy = TcpStream::connect(self.address).is_ok()
                && self
                    .ask("GET", "version", None)
                    .is_ok_and(|reply| reply.code == 200);
            healthy || self.program.check().is_err()
        })?;
        self.program.check()
    }

    /// It stands still: connections stay open and nothing answers.
    pub fn freeze(&self) -> Result<()> {
        self.program.freeze()
    }

    /// It goes on.
    pub fn thaw(&self) -> Result<()> {
        self.program.thaw()
    }

    /// Everything it wrote, for searches.
    pub fn log(&self) -> String {
        self.program.log()
    }
}

/// Without what asks other hosts or takes long.
fn app_ini(home: &Path, installed: &Path, address: SocketAddr) -> String {
    let (home, port) = (home.display(), address.port());
    let installed = installed.display();
    format!(
        "APP_NAME = bed
RUN_MODE = prod
RUN_USER = nobody
WORK_PATH = {home}
[server]
HTTP_ADDR = 127.0.0.1
HTTP_PORT = {port}
ROOT_URL = http://127.0.0.1:{port}/
STATIC_ROOT_PATH = {installed}/static
DISABLE_SSH = true
OFFLINE_MODE = true
LFS_START_SERVER = false
[database]
DB_TYPE = sqlite3
PATH = {home}/gitea.db
[repository]
ROOT = {home}/repositories
[security]
INSTALL_LOCK = true
PASSWORD_HASH_ALGO = pbkdf2$1$50
[webhook]
ALLOWED_HOST_LIST = loopback
DELIVER_TIMEOUT = 5
[service]
DISABLE_REGISTRATION = true
[actions]
ENABLED = false
[indexer]
ISSUE_INDEXER_TYPE = db
[cron]
ENABLED = false
[log]
LEVEL = Warn
[cron.update_checker]
ENABLED = false
"
    )
}

fn words_of(gitea: &Path, home: &Path, args: &[&str]) -> Vec<String> {
    let mut words: Vec<String> = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ]
    .iter()
    .map(|word| (*word).to_owned())
    .collect();
    // Its own variables only: tokens of whoever runs the tests are none of its business.
    words.extend(["env", "-i", "USER=nobody", "PATH=/usr/bin:/bin"].map(str::to_owned));
    words.push(format!("HOME={}", home.display()));
    words.push(gitea.display().to_string());
    words.push(format!("--config={}", home.join("app.ini").display()));
    words.extend(args.iter().map(|arg| (*arg).to_owned()));
    words
}

/// Runs one of its commands to the end.
fn admin(gitea: &Path, home: &Path, args: &[&str]) -> Result<String> {
    let words = words_of(gitea, home, args);
    let output = Command::new(&words[0])
        .args(&words[1..])
        .current_dir(home)
        .output()
        .context("cannot start setpriv")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "gitea {} failed: {said}{}",
        args.first().unwrap_or(&""),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(said)
}
