//! The drivers: each reaches one part of the world behind a port of
//! `trueup-model`. No driver knows another (k3s over NodeShell excepted), and none
//! decides anything.

pub mod age;
pub mod etcd;
pub mod forge;
pub mod git;
mod git_process;
pub mod k3s;
pub mod kube;
mod node_script;
pub mod ssh;
pub mod store;
mod tls;
pub mod webhook;
