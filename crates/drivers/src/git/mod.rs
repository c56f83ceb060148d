//! Git repositories, through the `git` binary: trueup's own mirror of the config
//! repo, the files of a commit, and the watch on a repository of this machine.

pub mod batch;
mod branches;
mod failure;
pub mod fresh;
pub(crate) mod leftovers;
pub mod mirror;
pub mod objects;
#[cfg(test)]
pub(crate) mod testbed;
mod url;
pub mod watch;

pub use branches::BranchGlob;
pub use mirror::{Mirror, Tracked, installed};
pub use trueup_model::port::git::{BranchName, FetchedTip, GitError, LogEntry, Moved};
pub use url::shown as shown_url;
pub use watch::RefWatch;
