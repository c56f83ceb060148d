//! trueup core

pub mod config;
