//! trueup model

pub mod document;
