//! The drivers: how the world is reached. Each room implements one port of the
//! model; none decides anything.

pub mod etcd;
pub mod kube;

mod tls;
