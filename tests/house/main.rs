//! The house against its own plan: who imports whom, how long files are, what the
//! command line looks like. Nothing here needs a machine.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

mod command_line;
mod rooms;
