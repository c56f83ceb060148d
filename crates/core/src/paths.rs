//! Where things lie on a machine.

/// k3s' configuration file, which trueup owns whole.
pub const CONFIG_PATH: &str = "/etc/rancher/k3s/config.yaml";
/// The token, 0600; named by `token-file` in the configuration.
pub const TOKEN_PATH: &str = "/etc/rancher/k3s/trueup-token";
/// k3s' binary.
pub const BINARY_PATH: &str = "/usr/local/bin/k3s";
/// Units that k3s' own installer uses.
pub const UNITS: [&str; 2] = ["k3s.service", "k3s-agent.service"];
/// Their files.
pub const UNIT_PATHS: [&str; 2] = [
    "/etc/systemd/system/k3s.service",
    "/etc/systemd/system/k3s-agent.service",
];
/// Where kernel settings are kept over a reboot.
pub const SYSCTL_PATH: &str = "/etc/sysctl.d/60-trueup.conf";
