//! k3s' inputs on a machine: its configuration, its unit, its token file. What is
//! written here follows k3s' own reading of them (`pkg/configfilearg`, `install.sh`).

pub mod config;
pub mod effective;
pub mod unit;

/// The configuration file that trueup owns whole.
pub const CONFIG_PATH: &str = "/etc/rancher/k3s/config.yaml";
/// The token, 0600; named by `token-file` in the configuration.
pub const TOKEN_PATH: &str = "/etc/rancher/k3s/trueup-token";
/// The binary.
pub const BINARY_PATH: &str = "/usr/local/bin/k3s";
/// Units that k3s' own installer uses.
pub const UNITS: [&str; 2] = ["k3s.service", "k3s-agent.service"];
/// Their files.
pub const UNIT_PATHS: [&str; 2] = [
    "/etc/systemd/system/k3s.service",
    "/etc/systemd/system/k3s-agent.service",
];
