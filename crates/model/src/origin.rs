//! Where a desired thing was written: the `why` of every step.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A place in the config repo.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// Path from the repository's root, `/` between its parts.
    pub file: Arc<str>,
    /// Line, counted from 1.
    pub line: u32,
}

impl Origin {
    /// A place in `file`.
    pub fn new(file: impl Into<Arc<str>>, line: u32) -> Self {
        Self {
            file: file.into(),
            line,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}
