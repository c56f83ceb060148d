//! The journal of trueup's store, read from a copy.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use camino::Utf8PathBuf;
use trueup_bed::Machine;
use trueup_drivers::store::StateDir;
use trueup_model::port::store::Store as _;
use trueup_model::step::Outcome;

use super::host::STATE;

/// More rows than any story writes.
const ROWS_MAX: u32 = 5000;

/// A step that was performed.
#[derive(Debug, Clone)]
pub(crate) struct Performed {
    /// Its id.
    pub(crate) id: String,
    /// The commit.
    pub(crate) commit: String,
    /// `install v1.36.3+k3s1 on machine/m1`.
    pub(crate) line: String,
    /// `None`: its end was never written.
    pub(crate) outcome: Option<Outcome>,
}

impl Performed {
    pub(crate) fn is_done(&self) -> bool {
        self.outcome == Some(Outcome::Done)
    }
}

/// The journal, oldest first. The database is copied with its write-ahead log, which
/// is what a crash would leave: the copy is as good as the original.
pub(crate) fn read(machine: &Machine, scratch: &Path) -> Result<Vec<Performed>> {
    let copy = scratch.join("store-copy");
    if copy.exists() {
        fs::remove_dir_all(&copy)?;
    }
    fs::DirBuilder::new().mode(0o700).create(&copy)?;
    // The log first would lose a checkpoint between the two; this order replays one
    // that the database has already, which changes nothing.
    for name in ["trueup.db", "trueup.db-wal"] {
        if let Ok(bytes) = machine.read_file(&format!("{STATE}/{name}")) {
            fs::write(copy.join(name), bytes)?;
        }
    }
    let copy = Utf8PathBuf::from_path_buf(copy)
        .map_err(|path| anyhow::anyhow!("{} is not UTF-8", path.display()))?;
    let store = StateDir::open(&copy)?.store()?;
    let mut rows = store.history(ROWS_MAX).context("the journal")?;
    rows.reverse();
    Ok(rows
        .into_iter()
        .map(|row| Performed {
            id: row.entry.step.0.clone(),
            commit: row.entry.commit.to_string(),
            line: format!(
                "{} {} on {}",
                row.entry.verb, row.entry.subject, row.entry.target
            ),
            outcome: row.end.map(|(_, outcome)| outcome),
        })
        .collect())
}
