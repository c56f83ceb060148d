//! A typed document with the way back to its lines.

use std::sync::Arc;

use trueup_model::document::{Document, Located, Span};
use trueup_model::origin::Origin;

/// One loaded document.
#[derive(Debug, Clone)]
pub struct Entry<T> {
    /// Its spec.
    pub spec: T,
    /// Where it begins.
    pub origin: Origin,
    pub(super) document: Arc<Document>,
}

impl<T> Entry<T> {
    pub(super) fn new(spec: T, document: Arc<Document>) -> Self {
        let origin = origin_of(&document, document.root.span);
        Self {
            spec,
            origin,
            document,
        }
    }

    /// Where the field at this JSON pointer (`/spec/k3s/version`) is written; what does not exist
    /// is where its nearest existing parent is.
    #[must_use]
    pub fn line_of(&self, pointer: &str) -> Origin {
        origin_of(&self.document, self.place(pointer))
    }

    /// The file, relative to the tree's root.
    #[must_use]
    pub fn file(&self) -> &Arc<str> {
        &self.document.file
    }

    /// The value at a pointer, or its nearest parent's key.
    pub(super) fn place(&self, pointer: &str) -> Span {
        let root = &self.document.root;
        match root.at_pointer(pointer) {
            Some(found) => found.node.span,
            None => {
                let Located { node, key } = root.nearest(pointer);
                key.map_or(node.span, |key| key.span)
            }
        }
    }

    /// The key at a pointer, for what is wrong with a field as such.
    pub(super) fn key(&self, pointer: &str) -> Span {
        let found = self.document.root.nearest(pointer);
        found.key.map_or(found.node.span, |key| key.span)
    }
}

/// A place as the reason of a step.
pub(super) fn origin_of(document: &Document, span: Span) -> Origin {
    Origin::new(
        Arc::clone(&document.file),
        u32::try_from(span.line).unwrap_or(u32::MAX),
    )
}
