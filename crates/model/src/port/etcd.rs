//! Etcd: the members, by a fresh look.

use async_trait::async_trait;

use crate::facts::etcd::EtcdFacts;

/// Why etcd could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// The client certificate could not be read from the machine.
    #[error("no etcd credential on {node}: {why}")]
    Credential {
        /// The machine.
        node: String,
        /// What happened.
        why: String,
    },
    /// No answer.
    #[error("etcd on {node} does not answer: {why}")]
    Unreachable {
        /// The machine.
        node: String,
        /// What happened.
        why: String,
    },
}

/// etcd of one cluster.
#[async_trait]
pub trait Etcd: Send + Sync + std::fmt::Debug {
    /// A fresh look: the member list from the first server that answers, and each
    /// member's own Status. Never from a cache.
    async fn members(&self) -> Result<EtcdFacts, EtcdError>;
}
