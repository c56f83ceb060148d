//! The way to the API: through the machines, the next server when one is down, and
//! the credential when it is old.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretSlice;
use serde_json::{Value, json};
use trueup_bed::control::{ControlPlane, ControlSpec};
use trueup_drivers::kube::{KubeApi, KubeSettings};
use trueup_model::port::{ClusterApi as _, ClusterError, NodeShell};

use crate::pki::Authority;
use crate::shell::{KUBECONFIG, LoopbackShell};
use crate::stage::{Stage, api, config_map, kind, kubeconfig, node, reference, within};

const SOON: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test(flavor = "multi_thread")]
async fn the_next_server_is_taken() {
    let stage = Stage::start();
    let shell = || Arc::new(LoopbackShell::new(kubeconfig(&stage.plane, "trueup")));
    let (first, second) = (shell(), shell());
    // Nobody listens on port 1 of the first server.
    first.dial_to(1);
    let api = api(vec![
        ("s1", Arc::clone(&first)),
        ("s2", Arc::clone(&second)),
    ]);
    let kinds = [kind("v1", "ConfigMap")];
    let facts = api.facts(&kinds).await.unwrap();
    assert!(facts.blind.is_empty());
    assert!(second.dials.load(Ordering::Relaxed) > 0);
    let error = api.ready(&node("s1")).await.unwrap_err();
    assert!(matches!(error, ClusterError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("s1"), "{error}");
    api.ready(&node("s2")).await.unwrap();
    api.ready(&node("s3")).await.unwrap_err();

    // The second goes, the first is back: requests and watches move over.
    first.dial_to(0);
    let proxy = crate::fault::Proxy::start(&stage.plane).await;
    second.dial_to(proxy.port);
    let through = crate::stage::api(vec![
        ("s2", Arc::clone(&second)),
        ("s1", Arc::clone(&first)),
    ]);
    through.facts(&kinds).await.unwrap();
    proxy.cut();
    second.dial_to(1);
    stage.apply(config_map("a", "1")).await;
    let object = reference("v1", "ConfigMap", "default", "a");
    assert!(through.get(&object).await.unwrap().is_some());
    within("the watches have moved over", SOON, async {
        while !through
            .facts(&kinds)
            .await
            .unwrap()
            .objects
            .contains_key(&object)
        {
            through.changed().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_reached_but_through_the_machine() {
    let plane = ControlPlane::start(ControlSpec::default()).unwrap();
    let shell = Arc::new(LoopbackShell::new(kubeconfig(&plane, "trueup")));
    shell.dial_to(1);
    let api = api(vec![("s1", Arc::clone(&shell))]);
    // The API listens on this host, too: if it were dialled past the machine, it
    // would answer.
    let error = api.facts(&[]).await.unwrap_err();
    assert!(matches!(error, ClusterError::Unreachable { .. }), "{error}");
    assert!(shell.dials.load(Ordering::Relaxed) > 0);
    assert_eq!(plane.audit_lines("trueup").unwrap(), Vec::<String>::new());
    // A machine that is away says nothing of the credential either.
    let away = Arc::new(LoopbackShell::away());
    let error = crate::stage::api(vec![("s1", away)])
        .facts(&[])
        .await
        .unwrap_err();
    assert!(matches!(error, ClusterError::Unreachable { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_comes_first() {
    let plane = ControlPlane::start(ControlSpec::default()).unwrap();
    let shell = Arc::new(LoopbackShell::new(kubeconfig(&plane, "trueup")));
    let endpoint = plane.server_url().trim_start_matches("https://").to_owned();
    let settings = |kubeconfig: Option<Vec<u8>>, servers: Vec<_>, endpoint: Option<String>| {
        KubeApi::new(KubeSettings {
            cluster: "test".parse().unwrap(),
            servers,
            kubeconfig: kubeconfig.map(SecretSlice::from),
            endpoint,
        })
    };
    let servers = vec![(node("s1"), Arc::clone(&shell) as Arc<dyn NodeShell>)];
    let direct = settings(None, servers, Some(endpoint)).unwrap();
    direct.facts(&[]).await.unwrap();
    assert_eq!(shell.dials.load(Ordering::Relaxed), 0);
    assert_eq!(shell.reads.load(Ordering::Relaxed), 1);

    // A cluster that trueup did not make: its own kubeconfig, dialled where it says.
    let given = settings(Some(kubeconfig(&plane, "reader")), vec![], None).unwrap();
    given.facts(&[]).await.unwrap();
    let mut evil: Value = serde_json::from_slice(&kubeconfig(&plane, "reader")).unwrap();
    evil["users"][0]["user"] = json!({"exec": {"command": "touch", "args": ["/tmp/evil"]}});
    let error = settings(Some(evil.to_string().into_bytes()), vec![], None).unwrap_err();
    assert!(error.to_string().contains("user.exec"), "{error}");
    settings(None, vec![], None).unwrap_err();
}

/// A kubeconfig with a client certificate, as k3s writes it.
fn with_certificate(plane: &ControlPlane, authority: &Authority, left: Duration) -> Vec<u8> {
    let pair = authority.client("trueup", Duration::from_secs(30), left);
    let ca = STANDARD.encode(std::fs::read(plane.ca_path()).unwrap());
    let (cert, key) = (STANDARD.encode(pair.cert), STANDARD.encode(pair.key));
    let server = plane.server_url();
    format!(
        "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {ca}\n    \
         server: {server}\n  name: default\ncontexts:\n- context:\n    cluster: default\n    \
         user: default\n  name: default\ncurrent-context: default\nkind: Config\n\
         preferences: {{}}\nusers:\n- name: default\n  user:\n    \
         client-certificate-data: {cert}\n    client-key-data: {key}\n"
    )
    .into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_picked_up() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("client-ca.crt");
    std::fs::write(&ca, authority.pem()).unwrap();
    let plane = ControlPlane::start(ControlSpec {
        apiserver_args: vec![format!("--client-ca-file={}", ca.display())],
        ..ControlSpec::default()
    })
    .unwrap();
    let old = with_certificate(&plane, &authority, Duration::from_secs(8));
    let shell = Arc::new(LoopbackShell::new(old));
    let api = api(vec![("s1", Arc::clone(&shell))]);
    let kinds = [kind("v1", "ConfigMap")];
    api.facts(&kinds).await.unwrap();
    assert_eq!(shell.reads.load(Ordering::Relaxed), 1);
    shell.write(KUBECONFIG, with_certificate(&plane, &authority, DAY));
    let object = reference("v1", "ConfigMap", "default", "kube-root-ca.crt");
    // The old one expires while requests go on; none of them fails.
    within("the kubeconfig is read again", SOON, async {
        while shell.reads.load(Ordering::Relaxed) < 2 {
            api.get(&object).await.unwrap();
        }
    })
    .await;
    api.get(&object).await.unwrap();
    assert_eq!(shell.reads.load(Ordering::Relaxed), 2);

    // A certificate that the API server does not accept, and no other to be had.
    let other = with_certificate(&plane, &Authority::new(), DAY);
    let refused = crate::stage::api(vec![("s1", Arc::new(LoopbackShell::new(other)))]);
    let error = refused.facts(&kinds).await.unwrap_err();
    assert!(matches!(error, ClusterError::Credential { .. }), "{error}");
    let none = crate::stage::api(vec![("s1", Arc::new(LoopbackShell::default()))]);
    let error = none.facts(&kinds).await.unwrap_err();
    assert!(matches!(error, ClusterError::Credential { .. }), "{error}");
    assert!(
        error.to_string().contains("k3s.yaml does not exist"),
        "{error}"
    );
}
