//! What was seen of the world. A fact is old the moment it is known: everything
//! here came out of one observation, and a missing fact is `Unknown`, never
//! "absent".

pub mod cluster;
pub mod etcd;
pub mod machine;
pub mod object;

use serde::{Deserialize, Serialize};

/// A fact that could be read, or why it could not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Known<T> {
    /// It was read.
    Known(T),
    /// It was not: the reason, for people.
    Unknown(String),
}

impl<T> Known<T> {
    /// The fact, if it is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(fact) => Some(fact),
            Self::Unknown(_) => None,
        }
    }

    /// Why it is not known.
    pub fn why_unknown(&self) -> Option<&str> {
        match self {
            Self::Known(_) => None,
            Self::Unknown(why) => Some(why),
        }
    }
}
