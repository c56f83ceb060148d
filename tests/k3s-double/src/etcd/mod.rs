//! The embedded datastore: a real etcd member as k3s runs it, and the client that joins and looks after members.

pub(crate) mod client;
pub(crate) mod member;
mod messages;
