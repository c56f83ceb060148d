//! Texts to documents. Bad input becomes findings, never an error: whatever could be read before
//! and beside it is still there.

use std::sync::Arc;

use granit_parser::Parser;

use super::builder::Builder;
use super::codes;
use super::diagnostic::Diagnostic;
use super::node::Node;
use super::scalar::Resolver;

/// Larger files are refused unread; the limit that Flux sets on what it decrypts.
pub const FILE_BYTES_MAX: usize = 5 * 1024 * 1024;

/// Findings of one file after which reading stops: nobody reads on.
const FINDINGS_MAX: usize = 200;

/// One document of a file.
#[derive(Debug, Clone)]
pub struct Document {
    /// The file, relative to the tree's root.
    pub file: Arc<str>,
    /// Its position among the documents of the file, from 0.
    pub index: usize,
    /// The top node.
    pub root: Node,
    /// Whether an error was found inside: the tree is then good for further findings only.
    pub flawed: bool,
}

/// What a file held.
#[derive(Debug, Clone, Default)]
pub struct Parsed {
    /// Its documents in order, without empty ones.
    pub documents: Vec<Document>,
    /// What was wrong.
    pub findings: Vec<Diagnostic>,
}

/// The text of a file, or the finding that says why it has none.
///
/// # Errors
/// The file is larger than [`FILE_BYTES_MAX`] or not UTF-8.
pub fn text_of<'a>(file: &Arc<str>, bytes: &'a [u8]) -> Result<&'a str, Box<Diagnostic>> {
    if bytes.len() > FILE_BYTES_MAX {
        let message = format!(
            "the file has {} bytes, the limit is {FILE_BYTES_MAX}",
            bytes.len()
        );
        return Err(Box::new(Diagnostic::error(
            codes::YAML_BUDGET,
            file,
            message,
        )));
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let before = bytes.get(..at).unwrap_or_default();
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let message = format!("byte {at}, on line {line}, is not UTF-8");
        Box::new(
            Diagnostic::error(codes::YAML_NOT_UTF8, file, message).help("save the file as UTF-8"),
        )
    })
}

/// Reads all documents of a YAML or JSON text.
#[must_use]
pub fn parse(file: &Arc<str>, text: &str, resolver: Resolver) -> Parsed {
    let mut builder = Builder::new(file, resolver);
    let mut options = granit_parser::Options::default();
    options.set_emit_comments(false);
    let mut parser = Parser::new_from_str_with_options(text, options);
    while let Some(event) = parser.next_event() {
        match event {
            Ok((event, span)) => {
                if builder.event(event, &span).is_none() {
                    break;
                }
            }
            Err(error) => {
                builder.syntax(&error, text);
                // One broken document never hides the next one.
                if !matches!(parser.proceed_next_document(), Ok(true)) {
                    break;
                }
            }
        }
        if builder.parsed.findings.len() >= FINDINGS_MAX {
            break;
        }
    }
    builder.parsed
}
