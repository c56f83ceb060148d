//! `init`: a host configuration, an age identity and a config repo, all or nothing.
//! Nothing that exists is ever written over.

use std::fs;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use secrecy::ExposeSecret as _;
use trueup_core::config::fleets;
use trueup_drivers::age::{Identities, generate};
use trueup_drivers::git::{fresh, installed};
use trueup_drivers::store::{StateDir, StateDirError};
use trueup_model::id::{FleetName, NodeName};

use super::place::{Place, word};
use super::{file, texts};
use crate::app::worktree;
use crate::cli::Failure;
use crate::cli::exit::Exit;

/// What is to be made.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    /// The host configuration and the state directory.
    pub(crate) place: Place,
    /// The folder of the config repo.
    pub(crate) repo: Utf8PathBuf,
    /// The Fleet.
    pub(crate) fleet: FleetName,
    /// This machine as the first Node.
    pub(crate) local: Option<NodeName>,
    /// Private key to log in with.
    pub(crate) ssh_identity: Option<Utf8PathBuf>,
    /// age identity that exists already.
    pub(crate) age_identity: Option<Utf8PathBuf>,
    /// The host grants corrections.
    pub(crate) correct_drift: bool,
    /// The host grants roll-outs.
    pub(crate) roll_out: bool,
}

/// What was made.
#[derive(Debug)]
pub(crate) struct Made {
    /// The host configuration.
    pub(crate) config: Utf8PathBuf,
    /// The config repo.
    pub(crate) repo: Utf8PathBuf,
    /// It was there before, and is as it was.
    pub(crate) repo_kept: bool,
    /// The file of the age identity.
    pub(crate) age_identity: Utf8PathBuf,
    /// Whom secrets are encrypted for.
    pub(crate) recipient: String,
    /// The author that git was told for this repository, where it knew none.
    pub(crate) author: Option<String>,
}

/// What is taken back where the rest cannot be done.
#[derive(Debug, Default)]
struct Undo(Vec<Utf8PathBuf>);

impl Drop for Undo {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            let removed = if path.is_dir() {
                fs::remove_dir_all(path)
            } else {
                fs::remove_file(path)
            };
            // Gone already is as good.
            drop(removed);
        }
    }
}

/// Make it.
pub(crate) async fn make(wish: &Wish) -> Result<Made, Failure> {
    installed().await.map_err(|error| {
        Failure::new("TU0943", error.to_string()).next("apt-get install -y git")
    })?;
    refuse_existing(&wish.place.config)?;
    let keep = existing_fleet(wish)?;
    if let Some(path) = &wish.ssh_identity {
        usable_identity(path)?;
    }
    state_dir(wish)?;

    let mut undo = Undo::default();
    let (age_identity, recipient) = age_identity(wish, &mut undo)?;
    let author = match keep {
        Some(_) => None,
        None => make_repo(wish, &recipient, &mut undo).await?,
    };
    let text = texts::host(&texts::HostWords {
        repo: &wish.repo,
        fleet: keep.as_ref().unwrap_or(&wish.fleet).as_str(),
        state_dir: &wish.place.state_dir,
        age_identity: &age_identity,
        ssh_identity: wish.ssh_identity.as_deref(),
        correct_drift: wish.correct_drift,
        roll_out: wish.roll_out,
    });
    let config = &wish.place.config;
    folder_of(config)
        .and_then(|()| file::write_new(config, 0o600, text.as_bytes()))
        .map_err(|error| unwritable(config, &error).next(wish.elsewhere()))?;
    undo.0.clear();
    Ok(Made {
        config: config.clone(),
        repo: wish.repo.clone(),
        repo_kept: keep.is_some(),
        age_identity,
        recipient,
        author,
    })
}

fn unwritable(path: &Utf8Path, error: &io::Error) -> Failure {
    Failure::new(
        "TU0944",
        format!("cannot write {path}: {error}; nothing was changed"),
    )
}

fn folder_of(path: &Utf8Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

/// A host is set up once.
pub(crate) fn refuse_existing(config: &Utf8Path) -> Result<(), Failure> {
    if config.symlink_metadata().is_ok() {
        let trueup = super::place::command(config);
        return Err(Failure::new(
            "TU0941",
            format!("this host is set up already: {config} exists and is left as it is"),
        )
        .next(format!("{trueup} plan")));
    }
    Ok(())
}

/// The Fleet of a folder that is a config repo already; an error where the folder holds
/// anything else.
fn existing_fleet(wish: &Wish) -> Result<Option<FleetName>, Failure> {
    let repo = &wish.repo;
    let entries = match repo.read_dir_utf8() {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => {
            return Err(
                Failure::new("TU0942", format!("cannot use {repo}: {error}"))
                    .next(wish.command(&beside(repo))),
            );
        }
    };
    if !entries {
        return Ok(None);
    }
    let tree = worktree::read(repo).map_err(Failure::from)?;
    let mut found = fleets(&tree).into_iter().map(|(name, _)| name);
    let git = repo.join(".git").exists();
    match (found.next(), found.next()) {
        (Some(only), None) if git => return Ok(Some(only)),
        (Some(first), Some(_)) if git => {
            let named = fleets(&tree)
                .into_iter()
                .any(|(name, _)| name == wish.fleet);
            return Ok(Some(if named { wish.fleet.clone() } else { first }));
        }
        _ => {}
    }
    Err(Failure::new(
        "TU0942",
        format!("{repo} is not empty and is left as it is"),
    )
    .next(wish.command(&beside(repo))))
}

fn beside(repo: &Utf8Path) -> Utf8PathBuf {
    repo.join("fleet")
}

impl Wish {
    /// The command line that makes the same with another folder.
    fn command(&self, repo: &Utf8Path) -> String {
        let trueup = super::place::making(&self.place.config);
        self.words(&trueup, repo, &self.place.state_dir)
    }

    /// The command line that makes the same where the person stands.
    fn elsewhere(&self) -> String {
        let repo = if self.repo.exists() {
            self.repo.as_path()
        } else {
            Utf8Path::new("./fleet")
        };
        self.words(
            "trueup --config ./trueup.yaml",
            repo,
            Utf8Path::new("./state"),
        )
    }

    fn words(&self, trueup: &str, repo: &Utf8Path, state_dir: &Utf8Path) -> String {
        let mut words = vec![
            format!(
                "{trueup} init {} --fleet {}",
                word(repo.as_str()),
                self.fleet
            ),
            format!("--state-dir {}", word(state_dir.as_str())),
        ];
        let files = [
            ("--ssh-identity", &self.ssh_identity),
            ("--age-identity", &self.age_identity),
        ];
        for (flag, path) in files {
            words.extend(
                path.iter()
                    .map(|path| format!("{flag} {}", word(path.as_str()))),
            );
        }
        let flags = [
            ("--local", self.local.is_some()),
            ("--roll-out", self.roll_out),
            ("--correct-drift", self.correct_drift),
        ];
        words.extend(
            flags
                .into_iter()
                .filter(|flag| flag.1)
                .map(|flag| flag.0.to_owned()),
        );
        words.push("--yes".to_owned());
        words.join(" ")
    }
}

/// An identity that cannot be used is told now, not at the first connection.
fn usable_identity(path: &Utf8Path) -> Result<(), Failure> {
    crate::app::world::identity(path).map(drop).map_err(|why| {
        let failure = Failure::new("TU0946", format!("the SSH identity cannot be used: {why}"));
        if why.contains("chmod") {
            failure.next(format!("chmod 600 {path}"))
        } else if path.exists() {
            failure.next(format!("ssh-keygen -y -P '' -f {path}"))
        } else {
            failure.next(format!("ssh-keygen -t ed25519 -N '' -f {path}"))
        }
    })
}

fn state_dir(wish: &Wish) -> Result<(), Failure> {
    let path = &wish.place.state_dir;
    // Nearer than what the state directory says: a parent that cannot be written.
    folder_of(path).map_err(|error| unwritable(path, &error).next(wish.elsewhere()))?;
    StateDir::open(path).map(drop).map_err(|error| match error {
        StateDirError::Held { .. } => Failure::new("TU0907", error.to_string())
            .next("trueup status")
            .exit(Exit::Held),
        other => Failure::new("TU0902", other.to_string()).next(wish.elsewhere()),
    })
}

/// The age identity: the named one, the one of an earlier start, or a new one.
fn age_identity(wish: &Wish, undo: &mut Undo) -> Result<(Utf8PathBuf, String), Failure> {
    let path = match &wish.age_identity {
        Some(path) => super::place::absolute(path),
        None => wish.place.config.with_file_name("age.key"),
    };
    if path.exists() || wish.age_identity.is_some() {
        let failure = |why: String, next: String| Failure::new("TU0947", why).next(next);
        let identities = Identities::load(&path)
            .map_err(|error| failure(error.to_string(), format!("chmod 600 {path}")))?;
        let recipient = identities.public().into_iter().next().unwrap_or_default();
        return Ok((path, recipient));
    }
    let made = generate();
    folder_of(&path)
        .and_then(|()| file::write_new(&path, 0o600, made.file.expose_secret().as_bytes()))
        .map_err(|error| unwritable(&path, &error).next(wish.elsewhere()))?;
    undo.0.push(path.clone());
    Ok((path, made.recipient))
}

/// The config repo, made beside its place and moved there whole.
async fn make_repo(
    wish: &Wish,
    recipient: &str,
    undo: &mut Undo,
) -> Result<Option<String>, Failure> {
    let repo = &wish.repo;
    let failure =
        |error: io::Error| unwritable(repo, &error).next(wish.command(&super::place::own_repo()));
    let name = repo.file_name().unwrap_or("fleet");
    let new = repo.with_file_name(format!(".{name}.{}.new", std::process::id()));
    folder_of(repo).map_err(failure)?;
    fs::create_dir(&new).map_err(failure)?;
    undo.0.push(new.clone());
    let local = wish.local.as_ref().map(NodeName::as_str);
    for (path, text) in texts::repo(wish.fleet.as_str(), local, recipient) {
        let path = new.join(path);
        folder_of(&path)
            .and_then(|()| file::write_new(&path, 0o644, text.as_bytes()))
            .map_err(failure)?;
    }
    let author = author();
    let named = fresh::make(&new, "main", "The first state of the fleet", &author)
        .await
        .map_err(|error| Failure::new("TU0943", error.to_string()).next("git --version"))?;
    if repo.exists() {
        // Empty, and perhaps where the person stands: its entries move, not the folder.
        let entries = new.read_dir_utf8().map_err(failure)?;
        for entry in entries {
            let entry = entry.map_err(failure)?;
            let to = repo.join(entry.file_name());
            fs::rename(entry.path(), &to).map_err(failure)?;
            undo.0.push(to);
        }
        fs::remove_dir(&new).map_err(failure)?;
    } else {
        fs::rename(&new, repo).map_err(failure)?;
        undo.0.push(repo.clone());
    }
    Ok(named.then(|| format!("{} <{}>", author.name, author.email)))
}

/// Who commits on this host, where git knows nobody.
fn author() -> fresh::Author {
    let name = crate::app::socket::author_of(rustix::process::getuid().as_raw());
    let host = super::place::hostname().map_or_else(|| "localhost".to_owned(), String::from);
    fresh::Author {
        email: format!("{name}@{host}"),
        name,
    }
}
