//! Connections: whom they believe, where they go, and how they come back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use secrecy::SecretSlice;
use trueup_bed::Bed;
use trueup_bed::wait::wait_until;
use trueup_drivers::ssh::{AllowList, Hop, SshSettings, SshShell};
use trueup_model::facts::machine::ProbeRequest;
use trueup_model::id::Digest;
use trueup_model::port::{Delivery, NodeError, NodeShell, Staged};

use crate::world::{bed, hop, identity, install, job, look, perform, shell, value};

fn direct(hop: Hop) -> SshShell {
    SshShell::new(SshSettings::direct(hop, Arc::new(AllowList::everywhere())))
}

fn pinned(bed: &Bed, machine: &str, keys: &[&str]) -> Hop {
    let machine = bed.machine(machine);
    let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
    Hop::new(&machine.ip().to_string(), 22, "root", &keys, identity(bed)).unwrap()
}

async fn probe(shell: &SshShell) -> Result<(), NodeError> {
    shell.probe(&ProbeRequest::default()).await.map(drop)
}

const ANOTHER_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIF7mDfTgIN5jDFbGxJnRTQjlMuEwMVMKgDRPnTDmYbJ0";

#[tokio::test(flavor = "multi_thread")]
async fn only_pinned_keys_are_believed() {
    let bed = bed(1);
    let machine = bed.machine("m1");
    let true_key = machine.host_key_openssh();
    let logins = || {
        machine
            .sh("journalctl -u ssh --no-pager | grep -c Accepted || true")
            .unwrap()
    };
    let before = logins();
    let of_type = machine
        .sh("ssh-keygen -q -t ecdsa -N '' -f /tmp/other && cat /tmp/other.pub")
        .unwrap();
    for wrong in [ANOTHER_KEY, of_type.trim()] {
        let shell = direct(pinned(&bed, "m1", &[wrong]));
        for _ in 0..2 {
            let NodeError::HostKey { line, shown, .. } = probe(&shell).await.unwrap_err() else {
                panic!("a wrong key was believed");
            };
            assert!(true_key.starts_with(&line) && !line.is_empty(), "{line}");
            assert!(shown.starts_with("SHA256:"), "{shown}");
        }
    }
    assert_eq!(logins(), before, "nobody logged in");
    // A key that is being replaced: both are pinned for a while.
    probe(&direct(pinned(&bed, "m1", &[ANOTHER_KEY, true_key])))
        .await
        .unwrap();
    // A host with several keys shows the one that is pinned.
    machine
        .sh("cd /etc/ssh; rm -f extra*; ssh-keygen -q -t rsa -b 2048 -N '' -f extra_rsa; ssh-keygen -q -t ecdsa -N '' -f extra_ecdsa; \
             for key in extra_rsa extra_ecdsa $(ls /etc/ssh/ssh_host_*_key); do echo HostKey $(realpath $key); done >>sshd_config; systemctl restart ssh")
        .unwrap();
    machine.wait_ssh().unwrap();
    for key in ["extra_rsa", "extra_ecdsa"] {
        let line = machine.sh(&format!("cat /etc/ssh/{key}.pub")).unwrap();
        probe(&direct(pinned(&bed, "m1", &[line.trim()])))
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn through_another_machine() {
    let bed = bed(3);
    let through = |jump: Vec<Hop>, allow: AllowList| {
        SshShell::new(SshSettings {
            jump,
            ..SshSettings::direct(hop(&bed, "m3", "root"), Arc::new(allow))
        })
    };
    let hops = vec![hop(&bed, "m1", "ops"), hop(&bed, "m2", "root")];
    let shell = through(hops.clone(), AllowList::everywhere());
    let reply = look(&shell, &[]).await;
    assert_eq!(value(&reply, "hostname").unwrap(), "m3");
    let seen = bed
        .machine("m3")
        .sh("journalctl -u ssh --no-pager | grep Accepted")
        .unwrap();
    assert!(
        seen.contains(&format!("from {} ", bed.machine("m2").ip())),
        "{seen}"
    );
    // A hop in the middle is somebody else.
    let wrong = vec![hops[0].clone(), pinned(&bed, "m2", &[ANOTHER_KEY])];
    match probe(&through(wrong, AllowList::everywhere()))
        .await
        .unwrap_err()
    {
        NodeError::HostKey { address, .. } => {
            assert_eq!(address, format!("{}:22", bed.machine("m2").ip()));
        }
        other => panic!("{other}"),
    }
    // The whole way comes back when a hop was away.
    bed.machine("m2").power_cut().unwrap();
    assert!(probe(&shell).await.is_err());
    bed.machine("m2").power_on().unwrap();
    probe(&shell).await.unwrap();
    // Every hop must be allowed, also those that are reached from another one.
    let two: Vec<String> = ["m1", "m2"]
        .map(|name| bed.machine(name).ip().to_string())
        .to_vec();
    let allow = AllowList::parse(two.iter().map(String::as_str)).unwrap();
    match probe(&through(hops, allow)).await.unwrap_err() {
        NodeError::NotAllowed { address } => {
            assert_eq!(address, bed.machine("m3").ip().to_string())
        }
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_connection_comes_back() {
    let bed = bed(1);
    let machine = bed.machine("m1");
    let shell = shell(&bed, "m1", "root");
    probe(&shell).await.unwrap();
    // Rebooted meanwhile: the next call does not even notice.
    machine.reboot().unwrap();
    probe(&shell).await.unwrap();
    machine.power_cut().unwrap();
    machine.power_on().unwrap();
    probe(&shell).await.unwrap();
    machine
        .sh("systemctl restart ssh; kill $(pgrep -f '[s]shd: root@')")
        .unwrap();
    machine.wait_ssh().unwrap();
    probe(&shell).await.unwrap();
    // Partitioned: told within half a minute, and whether it may have had an effect.
    machine.link_down().unwrap();
    let begun = Instant::now();
    let error = shell.read_secret("/etc/hostname").await.unwrap_err();
    let took = begun.elapsed();
    println!("partition told after {took:?}: {error}");
    assert!(took < Duration::from_secs(40), "{took:?}");
    assert!(
        matches!(
            error,
            NodeError::Unreachable { .. }
                | NodeError::Broken { .. }
                | NodeError::Timeout {
                    delivery: Delivery::Unknown,
                    ..
                }
        ),
        "{error}"
    );
    machine.link_up().unwrap();
    probe(&shell).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_in_the_middle_of_a_job() {
    let bed = bed(1);
    let machine = bed.machine("m1");
    let shell = shell(&bed, "m1", "root");
    machine
        .put_file(
            "/etc/systemd/system/slow.service",
            0o644,
            "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'touch /run/begun; while [ ! -e /run/go ]; do sleep 0.1; done'\n",
        )
        .unwrap();
    let job = job(
        "partition",
        1,
        vec![
            trueup_model::job::Operation::DaemonReload,
            trueup_model::job::Operation::Systemctl {
                verb: trueup_model::job::SystemctlVerb::Start,
                unit: "slow.service".to_owned(),
            },
        ],
    );
    shell.start(&job).await.unwrap();
    let begun = || machine.exec("test -e /run/begun").unwrap().code == Some(0);
    wait_until("the job to begin", Duration::from_secs(20), begun).unwrap();
    machine.link_down().unwrap();
    assert!(shell.job(&job.id, 1).await.is_err());
    machine.sh("touch /run/go").unwrap();
    machine.link_up().unwrap();
    match shell.job(&job.id, 20).await.unwrap() {
        trueup_model::job::JobState::Ended { code: 0, .. } => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_in() {
    let bed = bed(1);
    let machine = bed.machine("m1");
    match probe(&shell(&bed, "m1", "nobody-here")).await.unwrap_err() {
        NodeError::Refused { user, .. } => assert_eq!(user, "nobody-here"),
        other => panic!("{other}"),
    }
    machine
        .sh("useradd -m guest && mkdir -m 700 ~guest/.ssh && cp ~root/.ssh/authorized_keys ~guest/.ssh/ && chown -R guest ~guest/.ssh")
        .unwrap();
    let error = probe(&shell(&bed, "m1", "guest")).await.unwrap_err();
    assert!(matches!(error, NodeError::Lacks { .. }), "{error}");
    assert!(error.to_string().contains("NOPASSWD"), "{error}");
    machine.sh("mv /usr/bin/sudo /usr/bin/sudo.away").unwrap();
    let error = probe(&shell(&bed, "m1", "ops")).await.unwrap_err();
    assert!(error.to_string().contains("lacks sudo"), "{error}");
    machine
        .sh("mv /usr/bin/sudo.away /usr/bin/sudo; mv /usr/bin/flock /usr/bin/flock.away")
        .unwrap();
    let error = probe(&shell(&bed, "m1", "ops")).await.unwrap_err();
    assert!(error.to_string().contains("lacks flock"), "{error}");
    // Nothing is sent where nothing may be sent.
    let address = machine.ip().to_string();
    let count = || machine.sh("journalctl -u ssh --no-pager | wc -l").unwrap();
    let before = count();
    for allow in [vec![], vec!["192.0.2.0/24", "bed-host"]] {
        let allow = AllowList::parse(allow).unwrap();
        let shell = SshShell::new(SshSettings::direct(
            hop(&bed, "m1", "root"),
            Arc::new(allow),
        ));
        match probe(&shell).await.unwrap_err() {
            NodeError::NotAllowed { address: told } => assert_eq!(told, address),
            other => panic!("{other}"),
        }
    }
    assert_eq!(count(), before);
    // Nobody there, and somebody who never answers.
    machine
        .sh("systemctl stop ssh.socket ssh 2>/dev/null; systemctl stop ssh")
        .unwrap();
    let error = probe(&shell(&bed, "m1", "root")).await.unwrap_err();
    assert!(matches!(error, NodeError::Unreachable { .. }), "{error}");
    let deaf = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let keys = [machine.host_key_openssh().to_owned()];
    let port = deaf.local_addr().unwrap().port();
    let hop = Hop::new("127.0.0.1", port, "root", &keys, identity(&bed)).unwrap();
    let shell = SshShell::new(SshSettings {
        connect_limit: Duration::from_millis(300),
        ..SshSettings::direct(hop, Arc::new(AllowList::everywhere()))
    });
    let error = probe(&shell).await.unwrap_err();
    assert!(error.to_string().contains("no answer within"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_and_streams_at_once() {
    let bed = bed(1);
    let machine = bed.machine("m1");
    let shell = shell(&bed, "m1", "root");
    let begun = Instant::now();
    let all = futures::future::join_all((0..40).map(|_| probe(&shell))).await;
    println!("40 probes at once: {:?}", begun.elapsed());
    for result in all {
        result.unwrap();
    }
    let logins = machine
        .sh("journalctl -u ssh --no-pager | grep -c Accepted")
        .unwrap();
    assert_eq!(logins.trim(), "1", "one connection");
    // Streams, of which the cap on commands counts none.
    let mut streams = Vec::new();
    for _ in 0..8 {
        let mut stream = shell.dial(22).await.unwrap();
        let mut banner = [0; 8];
        stream.read_exact(&mut banner).await.unwrap();
        assert_eq!(&banner, b"SSH-2.0-");
        streams.push(stream);
    }
    probe(&shell).await.unwrap();
    streams[0].write_all(b"SSH-2.0-nobody\r\n").await.unwrap();
    streams[0].close().await.unwrap();
    let error = shell.dial(1).await.err().unwrap();
    assert!(matches!(error, NodeError::Unreachable { .. }), "{error}");
    probe(&shell).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_login_shell_says_does_no_harm() {
    let bed = bed(1);
    let machine = bed.machine("m1");
    let shell = shell(&bed, "m1", "root");
    machine
        .put_file(
            "/root/.bashrc",
            0o644,
            "echo; echo 'end\t=probe'; echo welcome >&2\n",
        )
        .unwrap();
    probe(&shell).await.unwrap();
    // A flood is cut off, and the connection is good for the next call.
    machine
        .put_file("/root/.bashrc", 0o644, "yes flood\n")
        .unwrap();
    let error = shell.read_secret("/etc/hostname").await.unwrap_err();
    assert!(matches!(error, NodeError::Reply { .. }), "{error}");
    machine
        .put_file(
            "/root/.bashrc",
            0o644,
            "yes flood >&2 & sleep 0.3; kill $!\n",
        )
        .unwrap();
    probe(&shell).await.unwrap();
    machine
        .put_file("/root/.bashrc", 0o644, "exit 5\n")
        .unwrap();
    let error = probe(&shell).await.unwrap_err();
    assert!(
        matches!(error, NodeError::Failed { code: 5, .. }),
        "{error}"
    );
    machine
        .put_file("/root/.bashrc", 0o644, "exit 0\n")
        .unwrap();
    let error = probe(&shell).await.unwrap_err();
    assert!(error.to_string().contains("did not answer"), "{error}");
    machine.put_file("/root/.bashrc", 0o644, "").unwrap();
    probe(&shell).await.unwrap();
    let logins = machine
        .sh("journalctl -u ssh --no-pager | grep -c Accepted")
        .unwrap();
    assert_eq!(logins.trim(), "1", "one connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_does_not_fill_the_log() {
    let bed = bed(1);
    let machine = bed.machine("m1");
    let shell = shell(&bed, "m1", "ops");
    probe(&shell).await.unwrap();
    let bytes = || -> usize {
        let log = machine.sh("journalctl --no-pager -o cat | wc -c").unwrap();
        log.trim().parse().unwrap()
    };
    let before = bytes();
    for _ in 0..10 {
        probe(&shell).await.unwrap();
    }
    let each = (bytes() - before) / 10;
    assert!(each < 500, "{each} bytes of log at each look");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_big_binary_is_quick() {
    let bed = bed(1);
    let shell = shell(&bed, "m1", "root");
    let content: Vec<u8> = (0..25_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let job = job("big", 1, vec![install("/usr/local/bin/big", &content)]);
    let begun = Instant::now();
    let sha256 = Digest::of(&content);
    println!("100 MB hashed in {:?}", begun.elapsed());
    let content = SecretSlice::from(content);
    probe(&shell).await.unwrap();
    let begun = Instant::now();
    let file = Staged {
        job: &job.id,
        path: "/usr/local/bin/big",
        sha256: &sha256,
        content: &content,
    };
    shell.stage(file).await.unwrap();
    println!("100 MB staged in {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert_eq!(perform(&shell, &job).await, (0, String::new()));
}
