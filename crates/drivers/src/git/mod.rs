//! Git repositories, through the `git` binary.

pub mod objects;
