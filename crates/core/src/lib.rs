//! trueup core
