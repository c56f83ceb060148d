//! Decisions: pure functions of the desired and the observed. No files, network,
//! time, randomness or async runtime; `clippy.toml` and `Cargo.toml` say so.

pub mod config;
pub mod desired;
pub mod drift;
pub mod engine;
pub mod gate;
pub mod health;
pub mod job;
pub mod k3s;
pub mod observed;
pub mod paths;
pub mod plan;
pub mod round;
