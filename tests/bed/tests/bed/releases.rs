//! The release server has the real one's layout and goes wrong when told.

use std::{fs, process::Command};

use trueup_bed::{Bed, BedSpec, Fault, ReleaseServer};

const ASSET: &str = "/releases/download/v1.36.3%2Bk3s1/k3s";

/// curl's exit code and what it printed.
fn curl(args: &[&str], url: &str) -> (i32, String) {
    let output = Command::new("curl")
        .args(["-sS", "--noproxy", "*"])
        .args(args)
        .arg(url)
        .output()
        .unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

fn releases() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("v1.36.3+k3s1")).unwrap();
    fs::write(dir.path().join("v1.36.3+k3s1/k3s"), "#!/bin/sh\necho k3s\n").unwrap();
    dir
}

#[test]
fn downloads_checksums_and_channels() {
    let dir = releases();
    let server = ReleaseServer::start(dir.path()).unwrap();
    let url = |path: &str| format!("{}{path}", server.base_url());

    assert_eq!(
        curl(&["-f"], &url(ASSET)),
        (0, "#!/bin/sh\necho k3s\n".to_owned())
    );
    let (_, sums) = curl(
        &["-f"],
        &url("/releases/download/v1.36.3%2Bk3s1/sha256sum-amd64.txt"),
    );
    assert_eq!(
        sums,
        "43acdf7de3937356da8a1992eb67860b55156f937385bab22b8c5e19f28cf35c  k3s\n"
    );
    assert_eq!(
        curl(&["-f"], &url("/releases/download/v1.36.3+k3s1/k3s")).0,
        22
    );
    assert_eq!(
        curl(&["-f"], &url("/releases/download/v1.36.4%2Bk3s1/k3s")).0,
        22
    );

    server.set_channel("stable", "v1.36.3+k3s1");
    let (_, location) = curl(
        &[
            "-f",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code} %{redirect_url}",
        ],
        &url("/v1-release/channels/stable"),
    );
    assert_eq!(
        location,
        format!("302 {}/releases/tag/v1.36.3%2Bk3s1", server.base_url())
    );
    let (_, list) = curl(&["-f"], &url("/v1-release/channels"));
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list["data"][0]["id"], "stable");
    assert_eq!(list["data"][0]["latest"], "v1.36.3+k3s1");
    assert_eq!(server.requests().first().unwrap(), &format!("GET {ASSET}"));
}

#[test]
fn it_lies_fails_and_hangs_when_told() {
    let dir = releases();
    let server = ReleaseServer::start(dir.path()).unwrap();
    let url = format!("{}{ASSET}", server.base_url());
    let whole = curl(&[], &url).1;

    server.set_fault("/k3s", Fault::Corrupt);
    let corrupt = curl(&[], &url).1;
    assert_eq!(corrupt.len(), whole.len());
    assert_ne!(corrupt, whole);
    server.set_fault("/k3s", Fault::Status(503));
    assert_eq!(
        curl(&["-o", "/dev/null", "-w", "%{http_code}"], &url).1,
        "503"
    );
    server.set_fault("/k3s", Fault::CutAfter(4));
    assert_eq!(curl(&[], &url), (18, "#!/b".to_owned()));
    server.set_fault("/k3s", Fault::Hang);
    assert_eq!(curl(&["--max-time", "1"], &url).0, 28);
    server.clear_faults();
    assert_eq!(curl(&[], &url).1, whole);
}

#[test]
fn machines_reach_it_by_the_host_of_the_bed() {
    let dir = releases();
    let bed = Bed::start(BedSpec::with_machines(1)).unwrap();
    let server = ReleaseServer::start_on(bed.host_ip(), dir.path()).unwrap();
    let script = format!("curl -fsS {}{ASSET} | sh", server.base_url());
    assert_eq!(bed.machine("m1").sh(&script).unwrap(), "k3s\n");
}
