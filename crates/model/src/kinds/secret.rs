//! A reference to one value of an encrypted file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One value in a SOPS file. Our kinds never hold encrypted leaves themselves,
/// since a SOPS MAC covers the clear values too.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct SecretRef {
    /// The encrypted file: a path below the Fleet's folder, without suffix.
    /// `secrets/edge` finds `secrets/edge.enc.yaml` (or `.yaml`, `.json`); exactly
    /// one file must match.
    #[schemars(length(min = 1))]
    pub secret: String,
    /// Key in that file; dots go down into mappings (`k3s.token`).
    #[schemars(length(min = 1))]
    pub key: String,
}
