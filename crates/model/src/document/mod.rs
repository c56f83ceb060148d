//! The text of the config repo as an ordered tree with a place for every node, and the findings
//! that refer to those places. One parse serves diagnostics, schema checks, SOPS and manifests.
//!
//! Absent from here: files, kinds, rules, keys, rendering.

mod builder;
pub mod codes;
mod diagnostic;
mod node;
mod parse;
mod scalar;
mod span;
mod tags;
mod write;

pub use diagnostic::{Code, Diagnostic, Related, Severity, Sources, sort};
pub use node::{Located, Node, Style, Value, pointer_token};
pub use parse::{Document, FILE_BYTES_MAX, Parsed, parse, text_of};
pub use scalar::{Resolver, integral, timestamp};
pub use span::Span;
pub use write::{WriteError, write_yaml};

#[cfg(test)]
mod tests;
