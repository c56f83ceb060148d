//! Releases from a server that lies, fails and hangs when told.

use std::fs;

use camino::{Utf8Path, Utf8PathBuf};
use tempfile::TempDir;
use trueup_bed::{Fault, ReleaseServer};
use trueup_model::id::Digest;

use super::release::checksum_of;
use super::{Arch, ReleaseError, Releases};

const VERSION: &str = "v1.33.4+k3s1";

struct World {
    keep: TempDir,
    server: ReleaseServer,
    content: Vec<u8>,
}

impl World {
    fn new() -> Self {
        let keep = tempfile::tempdir().unwrap();
        let release = keep.path().join("served").join(VERSION);
        fs::create_dir_all(&release).unwrap();
        let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        fs::write(release.join("k3s"), &content).unwrap();
        let server = ReleaseServer::start(&keep.path().join("served")).unwrap();
        Self {
            keep,
            server,
            content,
        }
    }
    fn dir(&self) -> Utf8PathBuf {
        let path = Utf8Path::from_path(self.keep.path()).unwrap();
        path.join("state/releases")
    }
    fn releases(&self) -> Releases {
        let base = format!("{}/releases/download", self.server.base_url());
        Releases::new(&base, &self.dir()).unwrap()
    }
}

#[tokio::test]
async fn a_binary_is_downloaded_once_and_verified_each_time() {
    let world = World::new();
    let releases = world.releases();
    let digest = releases.digest(VERSION, Arch::Amd64).await.unwrap();
    assert_eq!(digest, Digest::of(&world.content));
    let path = releases.binary(VERSION, Arch::Amd64).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), world.content);
    releases.binary(VERSION, Arch::Amd64).await.unwrap();
    // Another start, without a server: everything is known.
    world.server.set_fault("", Fault::Status(503));
    let again = world.releases();
    assert_eq!(again.binary(VERSION, Arch::Amd64).await.unwrap(), path);
    let requests = world.server.requests();
    assert_eq!(
        requests,
        [
            "GET /releases/download/v1.33.4%2Bk3s1/sha256sum-amd64.txt",
            "GET /releases/download/v1.33.4%2Bk3s1/k3s",
        ]
    );
    // What the disk did to it is seen, and it is fetched anew.
    world.server.clear_faults();
    fs::write(&path, "rotten").unwrap();
    let path = again.binary(VERSION, Arch::Amd64).await.unwrap();
    assert_eq!(fs::read(path).unwrap(), world.content);
}

#[tokio::test]
async fn what_goes_wrong_has_a_name_and_leaves_nothing() {
    let world = World::new();
    let releases = world.releases();
    let wrong = releases
        .digest("v9.9.9+k3s9", Arch::Amd64)
        .await
        .unwrap_err();
    assert!(matches!(wrong, ReleaseError::NotFound { .. }), "{wrong}");
    let wrong = releases.digest(VERSION, Arch::Arm64).await.unwrap_err();
    assert!(matches!(wrong, ReleaseError::NotFound { .. }), "{wrong}");
    for (fault, want) in [
        (Fault::Corrupt, "it is not used"),
        (Fault::CutAfter(1000), "ended after"),
        (Fault::Status(500), "answers 500"),
        (Fault::CutAfter(0), "ended after 0 bytes"),
    ] {
        world.server.set_fault("/k3s", fault);
        let error = releases.binary(VERSION, Arch::Amd64).await.unwrap_err();
        assert!(error.to_string().contains(want), "{fault:?}: {error}");
        let left: Vec<_> = fs::read_dir(world.dir())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .filter(|name| !name.to_string_lossy().ends_with(".sha256"))
            .collect();
        assert!(left.is_empty(), "{fault:?}: {left:?}");
    }
    world.server.clear_faults();
    releases.binary(VERSION, Arch::Amd64).await.unwrap();
}

#[tokio::test]
async fn a_wrong_checksum_file_is_asked_for_again() {
    let world = World::new();
    let releases = world.releases();
    world.server.set_fault("sha256sum", Fault::Corrupt);
    // One byte of the text is another: of the digest, or of the name.
    let error = releases.binary(VERSION, Arch::Amd64).await.unwrap_err();
    assert!(
        matches!(
            error,
            ReleaseError::Checksum { .. } | ReleaseError::NoChecksum { .. }
        ),
        "{error}"
    );
    world.server.clear_faults();
    let fresh = world.releases();
    fresh.binary(VERSION, Arch::Amd64).await.unwrap();
}

#[tokio::test]
async fn nobody_there() {
    let world = World::new();
    let base = world.server.base_url().to_owned();
    drop(world.server);
    let dir = Utf8Path::from_path(world.keep.path())
        .unwrap()
        .join("state");
    let releases = Releases::new(&base, &dir).unwrap();
    let error = releases.digest(VERSION, Arch::Amd64).await.unwrap_err();
    assert!(matches!(error, ReleaseError::Unreachable { .. }), "{error}");
}

#[test]
fn what_cannot_be_asked_for() {
    let keep = tempfile::tempdir().unwrap();
    let dir = Utf8Path::from_path(keep.path()).unwrap();
    for base in ["", "ftp://x/", "/srv/k3s", "https://"] {
        let error = Releases::new(base, dir).unwrap_err();
        assert!(matches!(error, ReleaseError::Base { .. }), "{error}");
    }
}

#[test]
fn checksum_files() {
    let digest = "0".repeat(64);
    for (text, want) in [
        (format!("{digest}  k3s\n"), true),
        (
            format!("{}  k3s-images.txt\n{digest} *k3s\n", "1".repeat(64)),
            true,
        ),
        (format!("{digest}  k3s-airgap\n"), false),
        ("abc  k3s\n".to_owned(), false),
        (String::new(), false),
    ] {
        assert_eq!(checksum_of(&text, "k3s").is_some(), want, "{text}");
    }
}
