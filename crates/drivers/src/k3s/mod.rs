//! k3s as it is published: releases, their checksums and binaries.

mod release;

pub use release::{Arch, ReleaseError, Releases};
