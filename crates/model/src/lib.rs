//! trueup model
