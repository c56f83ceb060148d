//! k3s' inputs on a machine: its configuration, its unit, its token file. What is
//! written here follows k3s' own reading of them (`pkg/configfilearg`, `install.sh`).

pub mod config;
pub mod effective;
pub mod given;
pub mod unit;
