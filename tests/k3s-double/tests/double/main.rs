//! The double under test: real control-plane parts on machines that are network and mount namespaces.
//!
//! Needs root, iproute2, util-linux, curl and the control-plane binaries (`DOUBLE_BIN_DIR`, by default
//! /var/cache/trueup-bed/bin or /opt/k8s). The bed's machines, with systemd, are for the tests of trueup itself.

mod machine;
mod single_server;
mod three_and_two;
