//! The shell against a server that misbehaves.

mod server;

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretSlice};
use trueup_model::id::Digest;
use trueup_model::job::JobId;
use trueup_model::port::{Delivery, NodeError, NodeShell as _, Staged};

use self::server::{Act, Server, key};
use super::LocalShell;

const FILE: &str = "script\t=1\nfile\t=present\ncontent\taGk=\nend\t=read\n";

#[tokio::test]
async fn what_a_call_sends_and_understands() {
    let server = Server::start(1, [Act::Say(FILE, 0)]).await;
    let content = server.shell().read_secret("/etc/x").await.unwrap().unwrap();
    assert_eq!(content.expose_secret(), b"hi");
    let log = server.log.lock().unwrap();
    assert!(log.commands[0].starts_with("sh -c 'exec sh -c"));
    assert!(log.commands[0].ends_with(" trueup 'read'"));
    let word = |word| log.commands[0].contains(word);
    assert!(!word("/etc/x") && !word("L2V0Yy94"), "names go by stdin");
}

#[tokio::test]
async fn what_is_told_of_a_bad_end() {
    let cases = [
        (Act::Say("script\t=1\nfile\t=present\n", 0), "cut off"),
        (Act::Say("Sorry, no.\n", 0), "did not answer"),
        (Act::Say("script\t=1\n", 80), "exit code 80"),
        (Act::Close("script\t=1\n"), "without an exit code"),
        (Act::Disconnect, "without an exit code"),
        (Act::Flood(&[b'x'; 16 * 1024]), "longer than"),
    ];
    for (act, want) in cases {
        let server = Server::start(1, [act.clone(), Act::Say(FILE, 0)]).await;
        let shell = server.shell();
        let error = shell.read_secret("/etc/x").await.unwrap_err();
        assert!(error.to_string().contains(want), "{act:?}: {error}");
        if let NodeError::Broken { delivery, .. } = error {
            assert_eq!(delivery, Delivery::Unknown, "{act:?}");
        }
        let commands = server.log.lock().unwrap().commands.len();
        assert_eq!(commands, 1, "{act:?}: what may have begun is not repeated");
        shell.read_secret("/etc/x").await.unwrap();
    }
}

#[tokio::test]
async fn refused_sessions_are_asked_for_again() {
    let server = Server::start(1, [Act::Say(FILE, 0)]).await;
    server.log.lock().unwrap().refuse = 3;
    server.shell().read_secret("/etc/x").await.unwrap();
    let log = server.log.lock().unwrap();
    assert_eq!((log.connections, log.commands.len()), (1, 1));
}

/// A machine with a full disk ends the call before it has read everything: nobody
/// grants window any more, and the call must end all the same.
#[tokio::test]
async fn a_command_that_does_not_read_on_is_heard() {
    let server = Server::start(1, [Act::Deaf(73)]).await;
    let content = SecretSlice::from(vec![7; 8 * 1024 * 1024]);
    let sha256 = Digest::of(content.expose_secret());
    let job = JobId::new(&sha256, 1, 1);
    let shell = server.shell();
    let stage = shell.stage(Staged {
        job: &job,
        path: "/etc/big",
        sha256: &sha256,
        content: &content,
    });
    let error = tokio::time::timeout(Duration::from_secs(20), stage)
        .await
        .expect("it ends")
        .unwrap_err();
    assert!(matches!(error, NodeError::NoSpace { .. }), "{error}");
}

#[tokio::test]
async fn a_key_that_is_not_pinned() {
    let server = Server::start(1, []).await;
    let other = key(2).public_key().to_openssh().unwrap();
    let error = server
        .shell_pinning(std::slice::from_ref(&other))
        .read_secret("/etc/x")
        .await
        .unwrap_err();
    let NodeError::HostKey { shown, line, .. } = error else {
        panic!("{error}");
    };
    assert_eq!((shown, line), (server.fingerprint(), server.host_key()));
    assert_eq!(server.log.lock().unwrap().connections, 1, "once, not again");
    let shell = server.shell_pinning(&[other, server.host_key()]);
    server.log.lock().unwrap().acts.push_back(Act::Say(FILE, 0));
    shell.read_secret("/etc/x").await.unwrap();
}

/// What is refused before anything is sent.
#[tokio::test]
async fn nothing_doubtful_leaves() {
    let server = Server::start(1, []).await;
    let shell = server.shell();
    for path in ["relative", "/a/../b", "/a\nb", ""] {
        let error = shell.read_secret(path).await.unwrap_err();
        assert!(
            matches!(error, NodeError::Failed { code: 70, .. }),
            "{path:?}: {error}"
        );
    }
    assert_eq!(server.log.lock().unwrap().connections, 0);
}

#[tokio::test]
async fn this_machine_by_the_same_script() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("it's \"a\" $(file)");
    std::fs::write(&file, b"\0secret\n\n").unwrap();
    let shell = LocalShell::new();
    let content = shell.read_secret(file.to_str().unwrap()).await;
    match content {
        Ok(content) => assert_eq!(content.unwrap().expose_secret(), b"\0secret\n\n"),
        // Another user without sudo: then that is told.
        Err(error) => assert!(matches!(error, NodeError::Lacks { .. }), "{error}"),
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(shell.dial(port).await.unwrap());
    drop(listener);
    let error = shell.dial(port).await.err().unwrap();
    assert!(matches!(error, NodeError::Unreachable { .. }), "{error}");
}
