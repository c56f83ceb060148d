//! Opens what sops encrypted for age recipients. The structure of such files is
//! [`trueup_model::sops`]'s; here are the keys.
//!
//! The MAC is verified always and there is no switch for it. Nothing decrypted is in any error,
//! `Debug` or `Display`. Absent from here: plugins (programs named by a file from Git), passphrase
//! prompts, writing of encrypted files.

mod error;
mod generate;
mod identities;
mod open;

pub use error::{IdentityError, SopsError, ValueFault};
pub use generate::{Generated, generate};
pub use identities::Identities;
pub use open::{Decrypted, decrypt};

#[cfg(test)]
mod tests;
