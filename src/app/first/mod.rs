//! The first machine: everything between an empty host and a loop that runs by itself.
//! A host configuration and a config repo are made, machines are enrolled, what lives
//! already is adopted, and what is missing is told.

pub(crate) mod adopt;
pub(crate) mod doctor;
pub(crate) mod edit;
pub(crate) mod enroll;
pub(crate) mod init;
pub(crate) mod kubeconfig;
pub(crate) mod place;
pub(crate) mod service;

mod file;
mod fleet;
mod texts;
mod trouble;
