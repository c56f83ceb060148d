//! The etcd driver on three real members.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use trueup_bed::cache::Cache;
use trueup_bed::control::Program;
use trueup_bed::run::Run;
use trueup_drivers::etcd::{CLIENT_PORT, EtcdApi, EtcdSettings, TLS_DIR};
use trueup_model::facts::etcd::EtcdFacts;
use trueup_model::port::{Etcd as _, EtcdError, NodeShell};

use crate::pki::{Authority, Pair};
use crate::shell::LoopbackShell;
use crate::stage::{node, within};

const LIMIT: Duration = Duration::from_secs(40);

/// Three members, each on a machine of its own as far as the driver sees.
struct Members {
    authority: Authority,
    client: Pair,
    ports: Vec<(u16, u16)>,
    shells: Vec<Arc<LoopbackShell>>,
    programs: Vec<Program>,
    /// Last: what it holds is removed after the members have ended.
    _run: Run,
}

impl Members {
    fn start() -> Self {
        let run = Run::begin().unwrap();
        run.group("etcd").create().unwrap();
        let dir = run.disks().join("etcd");
        fs::create_dir_all(&dir).unwrap();
        let authority = Authority::new();
        let client = authority.client("client", Duration::ZERO, Duration::from_secs(86_400));
        let server = authority.server();
        let write = |name: &str, text: &str| {
            let path = dir.join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let tls = [
            write("ca.crt", &authority.pem()),
            write("server.crt", &server.cert),
            write("server.key", &server.key),
        ];
        let held: Vec<TcpListener> = (0..6)
            .map(|_| TcpListener::bind(("127.0.0.1", 0)).unwrap())
            .collect();
        let free: Vec<u16> = held
            .iter()
            .map(|listener| listener.local_addr().unwrap().port())
            .collect();
        drop(held);
        let ports: Vec<(u16, u16)> = free.chunks(2).map(|pair| (pair[0], pair[1])).collect();
        let programs = (0..3)
            .map(|index| {
                let program = Program::new(
                    "etcd",
                    words(index, &ports, &dir, &tls),
                    dir.join(format!("{index}.log")),
                    run.group("etcd"),
                    run.ledger(),
                );
                program.start().unwrap();
                program
            })
            .collect();
        let shells = ports
            .iter()
            .map(|(port, _)| shell(&authority, &client, *port));
        Self {
            shells: shells.collect(),
            authority,
            client,
            ports,
            programs,
            _run: run,
        }
    }

    fn api(&self) -> EtcdApi {
        let servers = ["s1", "s2", "s3"].into_iter().zip(&self.shells);
        EtcdApi::new(EtcdSettings {
            servers: servers
                .map(|(name, shell)| (node(name), Arc::clone(shell) as Arc<dyn NodeShell>))
                .collect(),
            tls_dir: TLS_DIR.to_owned(),
            port: CLIENT_PORT,
        })
    }

    /// etcd's JSON gateway, for what the driver never does.
    async fn tell(&self, member: usize, path: &str, body: &Value) -> Value {
        let mut roots = rustls::RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(self.authority.pem().as_bytes()).unwrap();
        roots.add(ca).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(self.client.cert.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(self.client.key.as_bytes()).unwrap(),
            )
            .unwrap();
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", self.ports[member].0))
            .await
            .unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .unwrap();
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.0\r\nhost: etcd\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reply = String::new();
        // Without a TLS close at the end the text is still whole.
        let _end = stream.read_to_string(&mut reply).await;
        let json = reply.split("\r\n\r\n").nth(1).unwrap_or_default();
        serde_json::from_str(json).unwrap_or_else(|_| panic!("{reply}"))
    }
}

fn words(
    index: usize,
    ports: &[(u16, u16)],
    dir: &std::path::Path,
    tls: &[PathBuf; 3],
) -> Vec<String> {
    let (client, peer) = ports[index];
    let [ca, cert, key] = tls.each_ref().map(|path| path.display().to_string());
    let cluster: Vec<String> = ports
        .iter()
        .enumerate()
        .map(|(at, (_, peer))| format!("{}=https://127.0.0.1:{peer}", name(at)))
        .collect();
    let etcd = Cache::locate().program("etcd").unwrap();
    vec![
        etcd.display().to_string(),
        format!("--name={}", name(index)),
        format!("--data-dir={}", dir.join(index.to_string()).display()),
        format!("--listen-client-urls=https://127.0.0.1:{client}"),
        format!("--advertise-client-urls=https://127.0.0.1:{client}"),
        format!("--listen-peer-urls=https://127.0.0.1:{peer}"),
        format!("--initial-advertise-peer-urls=https://127.0.0.1:{peer}"),
        format!("--initial-cluster={}", cluster.join(",")),
        format!("--trusted-ca-file={ca}"),
        format!("--cert-file={cert}"),
        format!("--key-file={key}"),
        "--client-cert-auth".to_owned(),
        format!("--peer-trusted-ca-file={ca}"),
        format!("--peer-cert-file={cert}"),
        format!("--peer-key-file={key}"),
        "--unsafe-no-fsync".to_owned(),
    ]
}

/// As k3s names members.
fn name(index: usize) -> String {
    format!("s{}-0000000{index}", index + 1)
}

fn shell(authority: &Authority, client: &Pair, port: u16) -> Arc<LoopbackShell> {
    let files = [
        ("server-ca.crt", authority.pem()),
        ("client.crt", client.cert.clone()),
        ("client.key", client.key.clone()),
    ];
    let shell = LoopbackShell::with_files(
        files.map(|(name, text)| (format!("{TLS_DIR}/{name}"), text.into_bytes())),
    );
    shell.dial_to(port);
    Arc::new(shell)
}

async fn until(api: &EtcdApi, what: &str, wanted: impl Fn(&EtcdFacts) -> bool) -> EtcdFacts {
    within(what, LIMIT, async {
        loop {
            match api.members().await {
                Ok(facts) if wanted(&facts) => return facts,
                _ => tokio::task::yield_now().await,
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_asked_themselves() {
    let members = Members::start();
    let api = members.api();
    let facts = until(&api, "three healthy members", |facts| {
        facts.healthy_voters() == 3 && facts.alarms.is_empty()
    })
    .await;
    let names: Vec<&str> = facts
        .members
        .iter()
        .map(|member| member.name.as_str())
        .collect();
    assert_eq!(names, ["s1-00000000", "s2-00000001", "s3-00000002"]);
    assert_eq!(
        facts.members.iter().filter(|member| member.leader).count(),
        1
    );
    assert_eq!((facts.margin(), facts.alarms.len()), (1, 0), "{facts:?}");

    // A learner that never starts, and an alarm.
    let port = members.ports[0].1 + 1;
    let learner = json!({"peerURLs": [format!("https://127.0.0.1:{port}")], "isLearner": true});
    // etcd takes no member before the others have been connected for some seconds.
    within("a learner is taken", LIMIT, async {
        while members
            .tell(0, "/v3/cluster/member/add", &learner)
            .await
            .get("member")
            .is_none()
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let alarm = json!({"action": "ACTIVATE", "memberID": 0, "alarm": "NOSPACE"});
    members.tell(0, "/v3/maintenance/alarm", &alarm).await;
    let facts = api.members().await.unwrap();
    assert_eq!((facts.members.len(), facts.voters()), (4, 3), "{facts:?}");
    let learner = facts.members.iter().find(|member| member.learner).unwrap();
    assert!(learner.name.is_empty() && !learner.healthy);
    assert!(facts.alarms[0].ends_with(": NOSPACE"), "{facts:?}");
    let clear = json!({"action": "DEACTIVATE", "memberID": 0, "alarm": "NOSPACE"});
    members.tell(0, "/v3/maintenance/alarm", &clear).await;

    // One down: seen at the next look; the first server being away costs nothing else.
    members.programs[0].kill().unwrap();
    let facts = until(&api, "one member down", |facts| facts.healthy_voters() == 2).await;
    assert_eq!(facts.margin(), 0, "{facts:?}");

    // Frozen, connections open, nothing answers: no quorum, and every gate must see it.
    members.programs[1].freeze().unwrap();
    let facts = within("a look without quorum", LIMIT, api.members())
        .await
        .unwrap();
    members.programs[1].thaw().unwrap();
    assert!(facts.margin() < 0, "{facts:?}");
    let unconfirmed = facts.alarms.iter().any(|alarm| alarm.contains("no quorum"));
    assert!(unconfirmed, "{facts:?}");

    // Back again.
    members.programs[0].start().unwrap();
    until(&api, "three healthy members again", |facts| {
        facts.healthy_voters() == 3
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_read_again_when_they_do_not_do() {
    let members = Members::start();
    let api = members.api();
    until(&api, "three healthy members", |facts| {
        facts.healthy_voters() == 3
    })
    .await;
    let reads = |index: usize| {
        let shell: &LoopbackShell = &members.shells[index];
        shell.reads.load(std::sync::atomic::Ordering::Relaxed)
    };
    let before = reads(0);
    api.members().await.unwrap();
    assert_eq!(reads(0), before, "certificates are kept while they do");

    // Another authority's client is refused, then the right one is back in place.
    let other = Authority::new().client("client", Duration::ZERO, Duration::from_secs(600));
    for shell in &members.shells {
        shell.write(
            &format!("{TLS_DIR}/client.crt"),
            other.cert.clone().into_bytes(),
        );
        shell.write(
            &format!("{TLS_DIR}/client.key"),
            other.key.clone().into_bytes(),
        );
    }
    let fresh = members.api();
    let error = fresh.members().await.unwrap_err();
    assert!(matches!(error, EtcdError::Unreachable { .. }), "{error}");
    for shell in &members.shells {
        shell.write(&format!("{TLS_DIR}/client.crt"), b"no certificate".to_vec());
    }
    let error = fresh.members().await.unwrap_err();
    assert!(matches!(error, EtcdError::Credential { .. }), "{error}");
    for shell in &members.shells {
        shell.write(
            &format!("{TLS_DIR}/client.crt"),
            members.client.cert.clone().into_bytes(),
        );
        shell.write(
            &format!("{TLS_DIR}/client.key"),
            members.client.key.clone().into_bytes(),
        );
    }
    assert_eq!(fresh.members().await.unwrap().healthy_voters(), 3);
}
