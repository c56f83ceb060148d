use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use trueup_bed::release::{Fault, ReleaseServer};

use super::*;
use trueup_model::id::Digest;

const VERSION: &str = "v1.36.3+k3s1";

struct Bench {
    _keep: tempfile::TempDir,
    files: Utf8PathBuf,
    cache: Utf8PathBuf,
    server: ReleaseServer,
}

/// The server is in this process, on a machine that may be busy.
const SHORT: Limits = Limits {
    connect: Duration::from_secs(20),
    idle: Duration::from_secs(20),
    total: Duration::from_secs(40),
    failure_kept: Duration::ZERO,
};

/// For a server that is known to say nothing.
const IMPATIENT: Limits = Limits {
    idle: Duration::from_millis(200),
    ..SHORT
};

fn binary() -> Vec<u8> {
    (0..100_000_u32).flat_map(u32::to_le_bytes).collect()
}

impl Bench {
    fn new() -> Self {
        let keep = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(keep.path().to_owned()).unwrap();
        let (files, cache) = (path.join("files"), path.join("state/cache"));
        fs::create_dir_all(files.join(VERSION)).unwrap();
        fs::write(files.join(VERSION).join("k3s"), binary()).unwrap();
        fs::write(files.join(VERSION).join("k3s-airgap-images"), "x").unwrap();
        Self {
            server: ReleaseServer::start(files.as_std_path()).unwrap(),
            _keep: keep,
            files,
            cache,
        }
    }
    fn base(&self) -> String {
        format!("{}/releases/download/", self.server.base_url())
    }
    fn releases(&self) -> Releases {
        Releases::with_limits(&self.base(), &self.cache, SHORT).unwrap()
    }
    fn count(&self) -> usize {
        self.server.requests().len()
    }
    /// No half download, whatever went wrong.
    fn cached_files(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(&self.cache)
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[tokio::test]
async fn the_digest_is_fetched_once_and_kept_on_the_disk() {
    let bench = Bench::new();
    let releases = bench.releases();
    for _ in 0..2 {
        let digest = releases.digest(VERSION, Arch::Amd64).await.unwrap();
        assert_eq!(digest, Digest::of(&binary()));
    }
    bench.releases().digest(VERSION, Arch::Amd64).await.unwrap();
    assert_eq!(
        bench.server.requests(),
        ["GET /releases/download/v1.36.3%2Bk3s1/sha256sum-amd64.txt"]
    );
}

#[tokio::test]
async fn the_binary_is_fetched_once_and_verified() {
    let bench = Bench::new();
    let path = bench.releases().binary(VERSION, Arch::Amd64).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), binary());
    assert_eq!(bench.count(), 2);
    // Also by another process, and without a server.
    let releases = bench.releases();
    let base = bench.base();
    bench.server.set_fault("/", Fault::Status(500));
    for _ in 0..2 {
        assert_eq!(
            releases.binary(VERSION, Arch::Amd64).await.unwrap(),
            path,
            "{base}"
        );
    }
    assert_eq!(bench.count(), 2);
    let digest = Digest::of(&binary());
    assert_eq!(
        bench.cached_files(),
        [format!("{digest}.k3s"), format!("{VERSION}-amd64.sha256")]
    );
}

#[tokio::test]
async fn many_machines_cost_one_download() {
    let bench = Bench::new();
    let releases = bench.releases();
    let asked = (0..8).map(|_| releases.binary(VERSION, Arch::Amd64));
    for path in futures::future::join_all(asked).await {
        path.unwrap();
    }
    let downloads = bench.server.requests();
    let count = downloads
        .iter()
        .filter(|line| line.ends_with("/k3s"))
        .count();
    assert_eq!(count, 1, "{downloads:?}");
}

#[tokio::test]
async fn a_damaged_cache_file_is_fetched_again() {
    let bench = Bench::new();
    let releases = bench.releases();
    let path = releases.binary(VERSION, Arch::Amd64).await.unwrap();
    let damaged = |bytes: &[u8]| fs::write(&path, bytes).unwrap();
    damaged(b"short");
    assert_eq!(releases.binary(VERSION, Arch::Amd64).await.unwrap(), path);
    assert_eq!(fs::read(&path).unwrap(), binary());

    let mut bytes = binary();
    bytes[100_000] ^= 1;
    damaged(&bytes);
    releases.binary(VERSION, Arch::Amd64).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), binary());

    damaged(b"");
    bench.releases().binary(VERSION, Arch::Amd64).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), binary());
    assert_eq!(bench.count(), 5);
    // The record of the digest too.
    let record = bench.cache.join(format!("{VERSION}-amd64.sha256"));
    fs::write(record, "nonsense").unwrap();
    bench.releases().binary(VERSION, Arch::Amd64).await.unwrap();
    assert_eq!(bench.count(), 6);
}

#[tokio::test]
async fn wrong_bytes_are_never_used_and_the_next_try_works() {
    let bench = Bench::new();
    let releases = bench.releases();
    bench.server.set_fault("/k3s", Fault::Corrupt);
    let error = releases.binary(VERSION, Arch::Amd64).await.unwrap_err();
    let ReleaseError::ChecksumMismatch { wanted, got, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(*wanted, Digest::of(&binary()));
    assert_ne!(wanted, got);
    assert!(error.is_transient());
    assert_eq!(bench.cached_files(), [""; 0]);
    bench.server.clear_faults();
    releases.binary(VERSION, Arch::Amd64).await.unwrap();

    // A wrong checksum file: both are fetched again.
    let bench = Bench::new();
    let releases = bench.releases();
    let sums = bench.files.join(VERSION).join("sha256sum-amd64.txt");
    fs::write(&sums, format!("{}  k3s\n", "0".repeat(64))).unwrap();
    let error = releases.binary(VERSION, Arch::Amd64).await.unwrap_err();
    assert!(
        matches!(error, ReleaseError::ChecksumMismatch { .. }),
        "{error}"
    );
    fs::remove_file(sums).unwrap();
    releases.binary(VERSION, Arch::Amd64).await.unwrap();
}

#[tokio::test]
async fn faults_of_a_server_are_told_apart() {
    type Wanted = fn(&ReleaseError) -> bool;
    let cases: &[(&str, Fault, Wanted)] = &[
        ("/k3s", Fault::Status(404), |e| {
            matches!(e, ReleaseError::NotFound { .. })
        }),
        ("/k3s", Fault::Status(503), |e| {
            matches!(e, ReleaseError::Server { code: 503, .. })
        }),
        ("/k3s", Fault::Status(403), |e| {
            matches!(e, ReleaseError::Server { code: 403, .. })
        }),
        (
            "/k3s",
            Fault::CutAfter(5000),
            |e| matches!(e, ReleaseError::Truncated { wanted: Some(400_000), got, .. } if *got <= 5000),
        ),
        ("/k3s", Fault::CutAfter(0), |e| {
            matches!(e, ReleaseError::Truncated { got: 0, .. })
        }),
        ("sha256sum", Fault::Status(404), |e| {
            matches!(e, ReleaseError::NotFound { .. })
        }),
        ("sha256sum", Fault::Status(500), |e| {
            matches!(e, ReleaseError::Server { .. })
        }),
        ("sha256sum", Fault::CutAfter(10), |e| {
            matches!(e, ReleaseError::Truncated { .. })
        }),
    ];
    for (part, fault, wanted) in cases {
        let bench = Bench::new();
        let releases = bench.releases();
        bench.server.set_fault(part, *fault);
        let error = releases.binary(VERSION, Arch::Amd64).await.unwrap_err();
        assert!(wanted(&error), "{part} {fault:?}: {error:?}");
        assert!(
            bench
                .cached_files()
                .iter()
                .all(|name| name.ends_with("sha256"))
        );
        bench.server.clear_faults();
        releases.binary(VERSION, Arch::Amd64).await.unwrap();
    }
}

#[tokio::test]
async fn a_silent_server_ends_at_the_deadline() {
    let bench = Bench::new();
    bench.releases().digest(VERSION, Arch::Amd64).await.unwrap();
    bench.server.set_fault("/k3s", Fault::Hang);
    let releases = Releases::with_limits(&bench.base(), &bench.cache, IMPATIENT).unwrap();
    let error = releases.binary(VERSION, Arch::Amd64).await.unwrap_err();
    assert!(matches!(error, ReleaseError::Unreachable { .. }), "{error}");
    bench.server.clear_faults();
    bench.releases().binary(VERSION, Arch::Amd64).await.unwrap();
}

#[tokio::test]
async fn what_is_not_published_is_named() {
    let bench = Bench::new();
    let releases = bench.releases();
    let error = releases
        .digest("v9.9.9+k3s1", Arch::Amd64)
        .await
        .unwrap_err();
    assert!(matches!(error, ReleaseError::NotFound { .. }), "{error}");
    let error = releases.digest(VERSION, Arch::Arm64).await.unwrap_err();
    assert!(matches!(error, ReleaseError::NotFound { .. }), "{error}");
    let sums = bench.files.join(VERSION).join("sha256sum-arm64.txt");
    fs::write(&sums, format!("{}  k3s\n", "0".repeat(64))).unwrap();
    let error = releases.digest(VERSION, Arch::Arm64).await.unwrap_err();
    assert!(matches!(error, ReleaseError::Checksums { .. }), "{error}");
    fs::write(&sums, format!("{}  k3s-arm64\n", "a".repeat(64))).unwrap();
    let digest = releases.digest(VERSION, Arch::Arm64).await.unwrap();
    assert_eq!(digest.0, "a".repeat(64));
    for version in [
        "",
        "latest",
        "v1/../../x",
        "v1 2",
        &format!("v{}", "1".repeat(64)),
    ] {
        let error = releases.binary(version, Arch::Amd64).await.unwrap_err();
        assert!(matches!(error, ReleaseError::Version { .. }), "{error}");
    }
}

#[tokio::test]
async fn nobody_there() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let bench = Bench::new();
    let releases = Releases::with_limits(&base, &bench.cache, SHORT).unwrap();
    let error = releases.digest(VERSION, Arch::Amd64).await.unwrap_err();
    let ReleaseError::Unreachable { why, url } = &error else {
        panic!("{error}");
    };
    assert!(why.contains("refused"), "{why}");
    assert!(!why.contains(url.as_str()), "{why}");
}

/// A server that gives every request one answer.
fn answering(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            drop(stream.read(&mut [0; 4096]));
            // The client may go away in the middle.
            drop(stream.write_all(&answer));
        }
    });
    base
}

#[tokio::test]
async fn more_than_any_release_is_refused() {
    let bench = Bench::new();
    let announced = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n".to_vec();
    let mut endless = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec();
    endless.resize(200_000, b'x');
    for answer in [announced, endless] {
        let base = answering(answer);
        let releases = Releases::with_limits(&base, &bench.cache, SHORT).unwrap();
        let error = releases.digest(VERSION, Arch::Amd64).await.unwrap_err();
        assert!(matches!(error, ReleaseError::TooLarge { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_failed_question_is_not_repeated_at_once() {
    let bench = Bench::new();
    let releases = Releases::new(&bench.base(), &bench.cache).unwrap();
    for version in ["v1.0.0+k3s1", "v1.0.0+k3s1", "v1.0.1+k3s1"] {
        let error = releases.digest(version, Arch::Amd64).await.unwrap_err();
        assert!(matches!(error, ReleaseError::NotFound { .. }), "{error}");
    }
    assert_eq!(bench.count(), 2);
}

#[tokio::test]
async fn circles_end() {
    let bench = Bench::new();
    let answer =
        b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let base = answering(answer.to_vec());
    let releases = Releases::with_limits(&base, &bench.cache, SHORT).unwrap();
    let error = releases.digest(VERSION, Arch::Amd64).await.unwrap_err();
    assert!(error.to_string().contains("too often"), "{error}");
}

#[tokio::test]
async fn only_the_newest_binaries_are_kept() {
    let bench = Bench::new();
    let releases = bench.releases();
    fs::create_dir_all(&bench.cache).unwrap();
    fs::write(bench.cache.join(".new-left"), "half").unwrap();
    let old = std::time::SystemTime::UNIX_EPOCH;
    for n in 0..8_u64 {
        let file = fs::File::create(bench.cache.join(format!("{n}.k3s"))).unwrap();
        file.set_modified(old + Duration::from_secs(n)).unwrap();
    }
    releases.binary(VERSION, Arch::Amd64).await.unwrap();
    let names = bench.cached_files();
    let left: Vec<_> = names.iter().filter(|name| name.ends_with(".k3s")).collect();
    assert_eq!(left.len(), 6, "{names:?}");
    assert!(!names.contains(&"2.k3s".to_owned()) && names.contains(&"3.k3s".to_owned()));
    assert!(!names.contains(&".new-left".to_owned()));
}

#[test]
fn base_urls() {
    let dir = Utf8Path::new("/nonexistent");
    for base in [
        "",
        "releases",
        "file:///srv/k3s",
        "https://user:secret@h/x",
        "https://h/x?token=secret",
    ] {
        let error = Releases::new(base, dir).unwrap_err();
        assert!(matches!(error, ReleaseError::Base { .. }), "{base}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    Releases::new("http://h:8080/x/", dir).unwrap();
}

#[test]
fn checksum_lines() {
    let (one, two) = ("a".repeat(64), "b".repeat(64));
    let check = |text: &str| find_digest(text.as_bytes(), "k3s").ok().map(|d| d.0);
    let other = format!("{two}  k3s-airgap-images-amd64.tar\n");
    assert_eq!(check(&format!("{other}{one}  k3s\n")), Some(one.clone()));
    assert_eq!(check(&format!("{one} *k3s\r\n")), Some(one.clone()));
    assert_eq!(check(&format!("{one}  k3s\n{one}  k3s")), Some(one.clone()));
    for bad in [
        String::new(),
        other,
        format!("{one}  k3s\n{two}  k3s\n"),
        format!("{}  k3s\n", "A".repeat(64)),
        format!("{}  k3s\n", "a".repeat(63)),
        "<html>k3s</html>".to_owned(),
    ] {
        assert_eq!(check(&bad), None, "{bad}");
    }
}

/// A server that speaks TLS with a certificate for 127.0.0.1, and its authority.
fn tls_server(answer: &'static str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let pem = made.cert.pem();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let config = std::sync::Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("https://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let session = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut tls = rustls::StreamOwned::new(session, stream);
            // A client that does not trust us goes away in the middle.
            drop(tls.read(&mut [0; 4096]));
            drop(tls.write_all(answer.as_bytes()));
            tls.conn.send_close_notify();
            drop(tls.flush());
        }
    });
    (base, pem)
}

#[tokio::test]
async fn https_is_trusted_by_authority_and_never_left() {
    const AWAY: &str = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    const GONE: &str = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let ask = async |answer, trusted: bool| {
        let (base, pem) = tls_server(answer);
        let downloader = if trusted {
            let mut roots = rustls::RootCertStore::empty();
            let certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).flatten();
            roots.add_parsable_certificates(certificates);
            Downloader::with_roots(roots, SHORT).unwrap()
        } else {
            Downloader::new(&base, SHORT).unwrap()
        };
        let url = format!("{base}/x");
        downloader.small(&url, VERSION, 100).await.unwrap_err()
    };
    let error = ask(GONE, true).await;
    assert!(matches!(error, ReleaseError::NotFound { .. }), "{error}");
    let error = ask(GONE, false).await.to_string();
    assert!(error.contains("certificate"), "{error}");
    let error = ask(AWAY, true).await.to_string();
    assert!(error.contains("from https to http"), "{error}");
}
