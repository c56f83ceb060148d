//! The structure of files encrypted with sops: what can be said about them without any key.
//!
//! Facts are those of sops 3.13. Absent from here: keys, decryption, the file system.

mod encrypted;
mod file;
mod mac;
mod metadata;
mod secret;
mod selector;

pub use encrypted::{DataType, EncryptedValue, Malformed};
pub use file::{Leaf, SopsFile, holds_sops_block, is_sops_path};
pub use mac::MacInput;
pub use metadata::{Metadata, Recipient, RecipientKind};
pub use secret::SecretJson;
pub use selector::Selector;
