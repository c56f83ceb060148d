//! The simulated fleet of a host configuration: one file that several processes share.

mod file;

pub(crate) use file::FleetFile;
