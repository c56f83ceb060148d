//! Looks at a fleet: what one machine costs is not paid once per machine.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use camino::Utf8Path;
use tokio::net::TcpListener;

use super::super::office::{Desk, open};

const MACHINES: usize = 3;

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

fn document(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: trueup.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    )
}

/// A host and a config repo with a machine behind each of these ports.
fn host(dir: &Utf8Path, ports: &[u16]) {
    let (repo, key) = (dir.join("repo"), dir.join("key"));
    fs::create_dir(&repo).unwrap();
    let mut keygen = Command::new("ssh-keygen");
    run(keygen
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let public = fs::read_to_string(dir.join("key.pub")).unwrap();
    let pin: Vec<&str> = public.split_whitespace().take(2).collect();
    let write = |name: &str, text: String| fs::write(repo.join(name), text).unwrap();
    write("fleet.yaml", document("Fleet", "home", "{}"));
    for (number, port) in ports.iter().enumerate() {
        let spec = format!(
            "{{connection: {{ssh: {{address: 127.0.0.1, port: {port}, hostKeys: [\"{}\"]}}}}}}",
            pin.join(" ")
        );
        let name = format!("m{number}");
        write(&format!("{name}.yaml"), document("Node", &name, &spec));
    }
    for words in [
        vec!["init", "-q", "-b", "main"],
        vec!["add", "--all"],
        vec!["commit", "-q", "-m", "machines"],
    ] {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=dev", "-c", "user.email=dev@example.org"])
            .args(["-c", "commit.gpgsign=false", "-C"])
            .arg(&repo);
        run(git.args(words));
    }
    let settings = format!(
        "repo: {{url: {repo}, branch: main}}\nfleet: home\nholder: host\nstateDir: {dir}/state\n\
         ssh: {{identities: {{default: {key}}}}}\nallow: {{addresses: [127.0.0.1]}}\n"
    );
    fs::write(dir.join("trueup.yaml"), settings).unwrap();
}

/// The machines take connections and say nothing. One after another, each would be
/// waited for until its deadline before the next is asked at all.
#[tokio::test]
async fn machines_are_looked_at_together() {
    let dir = tempfile::tempdir().unwrap();
    let path = Utf8Path::from_path(dir.path()).unwrap();
    let mut silent = Vec::new();
    for _ in 0..MACHINES {
        silent.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let ports: Vec<u16> = silent
        .iter()
        .map(|listener| listener.local_addr().unwrap().port())
        .collect();
    host(path, &ports);
    let Desk::Own(mut office) = open(&path.join("trueup.yaml")).await.unwrap() else {
        panic!("no loop runs");
    };
    office.load(None).await.unwrap();
    let ids = office.runtime.unit_ids();

    let all = async {
        let mut held = Vec::new();
        for listener in &silent {
            held.push(listener.accept().await.unwrap());
        }
        // Every machine was asked, and none has answered: only now the lines are cut.
        drop(held);
    };
    let (plans, ()) = tokio::join!(office.runtime.plans(&ids), async {
        let limit = trueup_drivers::ssh::CONNECT_LIMIT;
        let together = tokio::time::timeout(limit, all).await;
        together.expect("all are asked before the first one's time is over");
    });
    assert_eq!(ids.len(), MACHINES);
    let planned: Vec<_> = plans.iter().map(|plan| plan.unit.clone()).collect();
    assert_eq!(planned, ids);
    for plan in plans {
        assert_eq!(plan.frontier.waits.len(), 1, "{plan:?}");
    }
}
