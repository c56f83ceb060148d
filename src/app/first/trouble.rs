//! What keeps trueup from a machine: the symptom as the driver tells it, and the one
//! command that goes on from there.

use trueup_model::port::NodeError;

use crate::cli::Failure;
use crate::cli::exit::Exit;

/// How a machine is logged in to, for the commands that are proposed.
#[derive(Debug, Clone)]
pub(super) struct Way {
    /// Address.
    pub(super) address: String,
    /// TCP port.
    pub(super) port: u16,
    /// User.
    pub(super) user: String,
    /// File of the private key.
    pub(super) identity: String,
    /// The host configuration.
    pub(super) config: String,
}

impl Way {
    fn ssh(&self, command: &str) -> String {
        let port = if self.port == 22 {
            String::new()
        } else {
            format!("-p {} ", self.port)
        };
        format!(
            "{command} {port}-i {} {}@{}",
            self.identity, self.user, self.address
        )
    }
}

/// The command that repairs it.
pub(super) fn repair(error: &NodeError, way: &Way) -> String {
    match error {
        NodeError::Unreachable { .. } | NodeError::Broken { .. } | NodeError::Timeout { .. } => {
            way.ssh("ssh -v") + " true"
        }
        NodeError::Refused { .. } => way.ssh("ssh-copy-id"),
        NodeError::HostKey { .. } => format!(
            "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub on the machine's own console, and compare; a right new key goes into its Node document (host {})",
            way.address
        ),
        NodeError::NotAllowed { address } => {
            format!("add {address} to allow.addresses in {}", way.config)
        }
        NodeError::Failed { output, .. } if is_sudo(output) => format!(
            "on {} as root: echo '{} ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/trueup",
            way.address, way.user
        ),
        NodeError::Lacks { .. } | NodeError::Failed { .. } | NodeError::Reply { .. } => {
            way.ssh("ssh") + " 'systemctl --version; sh --version; uname -a'"
        }
        NodeError::NoSpace { .. } => way.ssh("ssh") + " df -h",
    }
}

fn is_sudo(output: &str) -> bool {
    output.contains("sudo:") || output.contains("sudo: not found")
}

/// What happened, in words that name what is missing.
pub(super) fn symptom(error: &NodeError, way: &Way) -> String {
    match error {
        NodeError::Failed { output, .. } if is_sudo(output) => format!(
            "{} needs sudo without a password on {}: {}",
            way.user,
            way.address,
            output.trim()
        ),
        NodeError::Failed { output, code, .. } if *code == 127 => {
            format!(
                "{} lacks a program that trueup needs: {}",
                way.address,
                output.trim()
            )
        }
        other => other.to_string(),
    }
}

/// The same as a failure.
pub(super) fn failure(error: &NodeError, way: &Way) -> Failure {
    let exit = match error {
        NodeError::HostKey { .. } => Exit::HostKey,
        _ => Exit::Error,
    };
    Failure::new("TU0945", symptom(error, way))
        .next(repair(error, way))
        .exit(exit)
}
