//! server/cred/passwd and the token files: who may ask the supervisor for what.
//!
//! CSV `password,name,user,role` for the users server and node (passwd/passwd.go, checked).

use anyhow::Result;

use crate::layout::{self, Layout};
use crate::token;

/// The two passwords of a cluster. Not `Debug`: both are secrets.
#[derive(Clone)]
pub(crate) struct Passwords {
    pub(crate) server: String,
    pub(crate) node: String,
}

impl Passwords {
    /// Reads cred/passwd, or none when there is no such file.
    pub(crate) fn read(layout: &Layout) -> Result<Option<Self>> {
        let Some(text) = layout::read_if_there(&layout.cred("passwd"))? else {
            return Ok(None);
        };
        let of = |user: &str| {
            text.lines()
                .filter_map(|line| line.split_once(','))
                .find(|(_, rest)| rest.split(',').next() == Some(user))
                .map(|(password, _)| password.to_owned())
        };
        Ok(of("server")
            .zip(of("node"))
            .map(|(server, node)| Self { server, node }))
    }

    /// Writes cred/passwd.
    pub(crate) fn write(&self, layout: &Layout) -> Result<()> {
        let text = format!(
            "{},server,server,k3s:server\n{},node,node,k3s:agent\n",
            self.server, self.node
        );
        layout::write(&layout.cred("passwd"), text.as_bytes(), 0o600)
    }

    /// Writes server/token, and node-token and agent-token as links or files of their own.
    pub(crate) fn write_tokens(&self, layout: &Layout) -> Result<()> {
        let ca = layout::read(&layout.tls("server-ca.crt"))?;
        let full = |user: &str, password: &str| {
            format!("{}\n", token::full(ca.as_bytes(), user, password))
        };
        let server = layout.server("token");
        layout::write(&server, full("server", &self.server).as_bytes(), 0o600)?;
        layout::link(&server, &layout.server("node-token"))?;
        let agent = layout.server("agent-token");
        if self.node == self.server {
            return layout::link(&server, &agent);
        }
        if agent.is_symlink() {
            std::fs::remove_file(&agent)?;
        }
        layout::write(&agent, full("node", &self.node).as_bytes(), 0o600)
    }
}
