//! The Fleet in the config repo's work tree: where a person edits it, before anything is
//! committed.

use camino::{Utf8Path, Utf8PathBuf};
use trueup_core::config::{Config, Loaded, load};
use trueup_drivers::git::{Mirror, objects};
use trueup_drivers::store::StateDir;
use trueup_model::tree::Tree;

use crate::app::settings::Settings;
use crate::app::worktree;
use crate::cli::Failure;
use crate::cli::exit::Exit;

/// A work tree with its Fleet.
#[derive(Debug)]
pub(super) struct WorkTree {
    /// Its root.
    pub(super) root: Utf8PathBuf,
    /// Its files.
    pub(super) tree: Tree,
    /// What they say.
    pub(super) config: Config,
}

impl WorkTree {
    /// The work tree of the served Fleet: `named`, or `repo.url` where that is one, or the
    /// Fleet where the person stands.
    pub(super) fn open(settings: &Settings, named: Option<&Utf8Path>) -> Result<Self, Failure> {
        let root = match (named, local(&settings.repo.url)) {
            (Some(named), _) => super::place::absolute(named),
            (None, Some(local)) => local,
            (None, None) => here(&settings.repo.url)?,
        };
        let tree = worktree::read(&root).map_err(Failure::from)?;
        let mut loaded = load(&tree, Some(&settings.fleet));
        match loaded.config.take() {
            Some(config) => Ok(Self { root, tree, config }),
            None => Err(broken(&root, &loaded)),
        }
    }
}

/// The failure of a tree with errors.
pub(super) fn broken(root: &Utf8Path, loaded: &Loaded) -> Failure {
    let text = crate::cli::findings_text(loaded);
    Failure::new(
        "TU0904",
        format!("the config repo {root} has errors\n{text}"),
    )
    .next(format!("trueup validate {root}"))
    .exit(Exit::Findings)
}

/// The folder of a URL that is a work tree on this machine.
pub(super) fn local(url: &str) -> Option<Utf8PathBuf> {
    let path = url.strip_prefix("file://").unwrap_or(url);
    let path = Utf8Path::new(path);
    (path.is_absolute() && path.join(".git").exists()).then(|| path.to_owned())
}

fn here(url: &str) -> Result<Utf8PathBuf, Failure> {
    let none = || {
        Failure::new(
            "TU0948",
            "the Node document is written into a work tree of the config repo, and there is none here",
        )
        .next(format!(
            "git clone {} fleet && cd fleet",
            trueup_drivers::git::shown_url(url)
        ))
        .exit(Exit::Usage)
    };
    let root = worktree::fleet_root(Utf8Path::new(".")).map_err(|_| none())?;
    root.ancestors()
        .find(|folder| folder.join(".git").exists())
        .map(Utf8Path::to_owned)
        .ok_or_else(none)
}

/// The Fleet as the last fetched commit has it, without taking the state directory from
/// a loop that runs; where nothing was fetched yet, as the work tree has it.
async fn committed(settings: &Settings) -> Result<Config, Failure> {
    let fetched = mirrored(settings).await;
    match fetched {
        Some(tree) => {
            let mut loaded = load(&tree, Some(&settings.fleet));
            loaded
                .config
                .take()
                .ok_or_else(|| broken(Utf8Path::new(&settings.repo.url), &loaded))
        }
        None => WorkTree::open(settings, None).map(|tree| tree.config),
    }
}

async fn mirrored(settings: &Settings) -> Option<Tree> {
    let view = StateDir::peek(&settings.state_dir).ok()?;
    let dir = view.mirror();
    let branch = settings.repo.branch.parse().ok()?;
    let commit = Mirror::at(&dir).fetched(&branch).await.ok()??;
    objects::read_tree(&dir, commit.as_str()).ok()
}

/// The Fleet as a person sees it: in the work tree of this machine, where `repo.url` is
/// one, else as it was committed.
pub(super) async fn newest(settings: &Settings) -> Result<Config, Failure> {
    if local(&settings.repo.url).is_some() {
        return WorkTree::open(settings, None).map(|tree| tree.config);
    }
    committed(settings).await
}
