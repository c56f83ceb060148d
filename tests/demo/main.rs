//! The demo through the built binary, and after it the fleet that it leaves behind:
//! commits that its script never saw, planned and applied by other processes. Needs no
//! machine, no root and no network, only git.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

mod afterwards;
mod bad_start;
mod left;

use std::time::{Duration, Instant};

use left::{Left, demo};

/// Many times what it takes: a busy machine is no failure.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn it_shows_what_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let output = demo(dir.path(), &["--fast"]);
    assert!(begun.elapsed() < LIMIT);
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}\n{errors}");
    let in_order = [
        "57 steps in 5 waves",
        "start k3s.service as the first server on k3sc1",
        "trueup/lab/converged: success",
        "spec.replicas: 5 (applied: 2)",
        "trueup/lab/drift/edge: success",
        "correction is off in the config repo",
        "start k3s-agent.service joining https://192.0.2.11:6443 on k3sw2",
        "cluster.yaml:34:5",
        "34 |     maxUnavailabel: 2",
        "etcd 3/3 voters, may lose 1",
        "restart k3s.service with /usr/local/bin/k3s on k3sc1",
        "etcd 3/3 voters, may lose 1",
        "restart k3s.service with /usr/local/bin/k3s on k3sc2",
        "etcd 3/3 voters, may lose 1",
        "restart k3s.service with /usr/local/bin/k3s on k3sc3",
        "restart k3s-agent.service with /usr/local/bin/k3s on k3sw1",
        "restart k3s-agent.service with /usr/local/bin/k3s on k3sw2",
        "log --notes=trueup",
        "trueup/lab/validate failure: cluster.yaml:34:5",
        "apply --yes",
    ];
    let mut rest = text.as_str();
    for part in in_order {
        let at = rest.find(part);
        assert!(at.is_some(), "no {part:?} in its place:\n{text}");
        rest = &rest[at.unwrap()..][1..];
    }
    assert!(!text.contains('\u{1b}') && !text.contains('\r'), "{text}");
    Left::of(dir.path()).is_true();
}

#[test]
fn a_second_one_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(demo(dir.path(), &["--fast"]).status.code(), Some(0));
    let left = Left::of(dir.path());
    left.replace("apps/hello/web.yaml", "replicas: 2", "replicas: 4");
    let output = demo(dir.path(), &["--fast"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("already; it is made anew"), "{text}");
    assert!(left.read("apps/hello/web.yaml").contains("replicas: 2"));
}
