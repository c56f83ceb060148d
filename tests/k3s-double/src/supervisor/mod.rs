//! Port 6443: k3s' own listener in front of kube-apiserver.

mod fault;
mod listener;
mod proxy;
mod routes;
mod state;

pub(crate) use listener::serve;
pub(crate) use state::State;
