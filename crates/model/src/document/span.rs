//! Where a piece of text stands in its file.

use serde::Serialize;

/// A half-open byte range in one file, with the position of its first character.
///
/// Byte offsets are the truth; `line` and `column` are carried along because every human-facing
/// message needs them and the text may be gone by then. Conversions to other units (UTF-16 for
/// editors) belong to whoever renders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
    /// Line of the first byte, from 1.
    pub line: usize,
    /// Column of the first byte in characters, from 1.
    pub column: usize,
}

impl Span {
    /// The same start, reaching to the end of `other` when that lies further on.
    #[must_use]
    pub fn to_end_of(self, other: Self) -> Self {
        Self {
            end: self.end.max(other.end),
            ..self
        }
    }

    /// The first byte of a file, for findings about the file as a whole.
    #[must_use]
    pub const fn file_start() -> Self {
        Self {
            start: 0,
            end: 0,
            line: 1,
            column: 1,
        }
    }
}

impl From<granit_parser::Span> for Span {
    fn from(span: granit_parser::Span) -> Self {
        let range = span.byte_range().unwrap_or(0..0);
        Self {
            start: range.start,
            end: range.end,
            line: span.start.line(),
            column: span.start.col() + 1,
        }
    }
}
