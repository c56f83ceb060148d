//! Files that are whole or not there at all.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use camino::{Utf8Path, Utf8PathBuf};

/// Writes a file that must not exist; what is there already is never touched.
pub(super) fn write_new(path: &Utf8Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let new = beside(path);
    let written = fill(&new, mode, bytes).and_then(|()| fs::hard_link(&new, path));
    let removed = fs::remove_file(&new);
    written.and(removed)
}

/// Puts a file in the place of another.
pub(super) fn replace(path: &Utf8Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let new = beside(path);
    let done = fill(&new, mode, bytes).and_then(|()| fs::rename(&new, path));
    if done.is_err() {
        drop(fs::remove_file(&new));
    }
    done
}

/// A name in the same folder that nobody else uses.
fn beside(path: &Utf8Path) -> Utf8PathBuf {
    let name = path.file_name().unwrap_or("file");
    path.with_file_name(format!(".{name}.{}.new", std::process::id()))
}

fn fill(path: &Utf8Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        drop(fs::remove_file(path));
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_there_stays_unless_it_is_to_be_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(folder.path().join("a")).unwrap();
        write_new(&path, 0o600, b"one").unwrap();
        let again = write_new(&path, 0o600, b"two").unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        replace(&path, 0o600, b"three").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
