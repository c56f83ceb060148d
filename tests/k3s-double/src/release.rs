//! The version of a release file.
//!
//! Several releases are needed from one build, so the version is a trailer behind the launcher's bytes: an ELF file may
//! carry anything after its last section.

use std::fs::{File, Permissions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

const MARK: &str = "\nTRUEUP-K3S-DOUBLE-VERSION=";
/// Longest trailer that is looked for; a version is a few dozen bytes.
const TRAILER_MAX: u64 = 256;
/// What an unstamped build calls itself.
const UNSTAMPED: &str = "v1.36.3+k3s1";

fn version_in(tail: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(tail);
    let (_, version) = text.rsplit_once(MARK)?;
    let version = version.strip_suffix('\n')?;
    (!version.is_empty() && !version.contains('\n')).then(|| version.to_owned())
}

/// The version that is stamped into `file`, or none.
pub(crate) fn stamped(file: &Path) -> Result<Option<String>> {
    let mut file = File::open(file).with_context(|| format!("open {}", file.display()))?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TRAILER_MAX)))?;
    let mut tail = Vec::new();
    file.take(TRAILER_MAX).read_to_end(&mut tail)?;
    Ok(version_in(&tail))
}

/// The version of the running program.
pub(crate) fn running() -> String {
    match stamped(Path::new("/proc/self/exe")) {
        Ok(Some(version)) => version,
        _ => UNSTAMPED.to_owned(),
    }
}

/// Writes a release file of `version` to `out`: this program's own bytes, stripped where `strip` is at hand (every
/// machine is sent the file), with a trailer, mode 0755.
pub(crate) fn stamp(version: &str, out: &Path) -> Result<()> {
    if !version.starts_with('v') || version.len() > 64 || version.contains(char::is_whitespace) {
        bail!("a version looks like v1.36.3+k3s1, not {version:?}");
    }
    let own = std::fs::read_link("/proc/self/exe").context("find the own program file")?;
    let stripped = std::process::Command::new("strip")
        .arg("-o")
        .args([out, &own])
        .status()
        .is_ok_and(|status| status.success());
    if !stripped {
        std::fs::copy(&own, out).with_context(|| format!("create {}", out.display()))?;
    }
    if let Some(old) = stamped(out)? {
        let file = std::fs::OpenOptions::new().write(true).open(out)?;
        let trailer = u64::try_from(MARK.len() + old.len() + 1)?;
        file.set_len(file.metadata()?.len().saturating_sub(trailer))?;
    }
    std::fs::OpenOptions::new()
        .append(true)
        .open(out)?
        .write_all(format!("{MARK}{version}\n").as_bytes())?;
    std::fs::set_permissions(out, Permissions::from_mode(0o755))
        .with_context(|| format!("make {} executable", out.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_trailer_counts_and_only_a_whole_one() {
        for (tail, expected) in [
            (
                "code\nTRUEUP-K3S-DOUBLE-VERSION=v1.36.3+k3s1\n",
                Some("v1.36.3+k3s1"),
            ),
            ("code\nTRUEUP-K3S-DOUBLE-VERSION=v1.35.1+k3s1", None),
            ("code\nTRUEUP-K3S-DOUBLE-VERSION=\n", None),
            ("code", None),
        ] {
            assert_eq!(version_in(tail.as_bytes()).as_deref(), expected, "{tail:?}");
        }
    }

    #[test]
    fn a_stamped_file_says_its_version() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("k3s");
        stamp("v1.35.9+k3s2", &out).unwrap();
        assert_eq!(stamped(&out).unwrap().as_deref(), Some("v1.35.9+k3s2"));
        assert!(stamp("latest", &out).is_err());
    }
}
