//! trueup beside a real Gitea (tests/bed/install/gitea): what is pushed is judged on
//! the commit, through outages, lost replies and restarts. trueup runs as a child of
//! the test; its fleet has no machine, so that a story takes seconds.

#![allow(
    clippy::print_stderr,
    clippy::indexing_slicing,
    reason = "what a story measured belongs to its output, and a test may fail loudly"
)]

mod branches;
mod outage;
mod pushed;
mod refused;
mod rig;
