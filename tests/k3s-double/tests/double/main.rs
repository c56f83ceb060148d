//! The double under test, around real control-plane parts.
//!
//! Most of it on machines that are network and mount namespaces, which cost nothing; what is systemd's on the bed's.
//! Needs root and what `tests/run` installs.

mod machine;
mod single_server;
mod systemd;
mod three_and_two;
