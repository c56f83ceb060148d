//! trueup: the app and its command line. Decisions are in `trueup-core`.

pub mod app;
pub mod cli;
