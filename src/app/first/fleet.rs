//! The Fleet in the config repo's work tree: where a person edits it, before anything is
//! committed.

use camino::{Utf8Path, Utf8PathBuf};
use trueup_core::config::{Config, Loaded, load};
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
