//! trueup model

pub mod document;
pub mod sops;
