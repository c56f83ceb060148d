//! Forges: where verdicts are read by people.

mod line;
mod notes;

pub use notes::{NOTES_REF, NotesForge};
