//! What trueup decides: pure functions from values to values. No files, no network,
//! no clock, no randomness, no async.

pub mod drift;
