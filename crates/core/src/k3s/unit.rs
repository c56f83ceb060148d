//! The systemd unit of k3s, as its installer would write it, less the environment
//! file: every setting is in `config.yaml`, so that there is one place to look.

use trueup_model::kinds::Role;

/// Unit name for a role.
pub fn name(role: Role) -> &'static str {
    match role {
        Role::Server => "k3s.service",
        Role::Agent => "k3s-agent.service",
    }
}

/// Path of the unit file.
pub fn path(role: Role) -> &'static str {
    match role {
        Role::Server => "/etc/systemd/system/k3s.service",
        Role::Agent => "/etc/systemd/system/k3s-agent.service",
    }
}

/// Text of the unit file. `KillMode=process`: pods go on while k3s restarts.
/// `TimeoutStartSec=0`: a server waits as long as its cluster needs.
pub fn text(role: Role) -> String {
    let word = match role {
        Role::Server => "server",
        Role::Agent => "agent",
    };
    format!(
        "# Written by trueup; changes are put back.
[Unit]
Description=Lightweight Kubernetes ({word})
Documentation=https://k3s.io
Wants=network-online.target
After=network-online.target

[Install]
WantedBy=multi-user.target

[Service]
Type=notify
KillMode=process
Delegate=yes
User=root
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
TimeoutStartSec=0
Restart=always
RestartSec=5s
ExecStartPre=-/sbin/modprobe br_netfilter
ExecStartPre=-/sbin/modprobe overlay
ExecStart=/usr/local/bin/k3s {word}
"
    )
}
