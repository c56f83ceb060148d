//! Forges: where verdicts are read by people.

mod line;
mod notes;
mod status;

pub use notes::{NOTES_REF, NotesForge};
pub use status::{Dialect, StatusForge, StatusForgeError, StatusSettings, TokenSource};
