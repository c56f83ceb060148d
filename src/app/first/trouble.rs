//! What keeps trueup from a machine: the symptom as the driver tells it, and the one
//! command that goes on from there.

use camino::Utf8Path;
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
    fn trueup(&self) -> String {
        super::place::command(Utf8Path::new(&self.config))
    }

    pub(super) fn ssh(&self, command: &str) -> String {
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
        // It shows both keys, and what to type if the new one is right.
        NodeError::HostKey { address, .. } => {
            let host = address
                .rsplit_once(':')
                .map_or(address.as_str(), |(host, _)| host);
            format!(
                "{} node enroll {}",
                way.trueup(),
                host.trim_matches(['[', ']'])
            )
        }
        NodeError::NotAllowed { address } => format!("{} config allow {address}", way.trueup()),
        NodeError::Lacks { what } if what.starts_with("sudo") => format!(
            "on {} as root: echo '{} ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/trueup",
            way.address, way.user
        ),
        // Nothing can be installed against that: another machine, or another image.
        NodeError::Lacks { what } if what.contains("its init is") => {
            format!("on {}: ps -p 1 -o comm=", way.address)
        }
        NodeError::Lacks { .. } => format!(
            "on {} as root: apt-get install -y coreutils util-linux systemd",
            way.address
        ),
        NodeError::Failed { .. } | NodeError::Reply { .. } => {
            way.ssh("ssh") + " 'systemctl --version; sh --version; uname -a'"
        }
        NodeError::NoSpace { .. } => way.ssh("ssh") + " df -h",
    }
}

/// What happened, in words that name what is missing, and for whom.
pub(super) fn symptom(error: &NodeError, way: &Way) -> String {
    match error {
        NodeError::Lacks { what } => format!("{}@{} lacks {what}", way.user, way.address),
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
