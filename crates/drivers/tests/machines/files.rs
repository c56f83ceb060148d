//! Files: looked at, staged, installed, adopted, removed; and what is recorded.

use trueup_bed::Machine;
use trueup_model::facts::machine::ProbeRequest;
use trueup_model::id::Digest;
use trueup_model::job::{JobExit, Operation};
use trueup_model::port::{NodeError, NodeShell};

use crate::world::{
    bed, install, job, look, owned, perform, put, shell, stage, told, try_stage, value,
};

#[tokio::test(flavor = "multi_thread")]
async fn one_file_from_nothing_to_owned() {
    let bed = bed(1);
    for user in ["root", "ops"] {
        let shell = shell(&bed, "m1", user);
        let path = format!("/etc/trueup-test/{user}/motd");
        assert_eq!(told(&shell, &path).await, "absent");
        put(&shell, &path, b"hello\n").await;
        let reply = look(&shell, &[&path]).await;
        let seen = value(&reply, &format!("file {path}")).unwrap();
        let want = format!("file {} 0640 root root 6 ", Digest::of(b"hello\n"));
        assert!(seen.starts_with(&want), "{seen}");
        assert_eq!(
            value(&reply, &format!("content {path}")).unwrap(),
            "hello\n"
        );
        assert!(owned(&reply).contains(&path));
    }
    let machine = bed.machine("m1");
    let modes = "stat -c '%a %U' /var/lib/trueup /var/lib/trueup/owner /etc/trueup-test/root";
    assert_eq!(
        machine.sh(modes).unwrap(),
        "700 root\n600 root\n755 root\n",
        "the record is root's alone, made folders are not"
    );
    // The same content again, another mode: nothing needs to be staged.
    let shell = shell(&bed, "m1", "root");
    let path = "/etc/trueup-test/root/motd";
    let again = job("again", 1, vec![moded(path, b"hello\n", "0600", "ops")]);
    assert_eq!(perform(&shell, &again).await, (0, String::new()));
    assert!(told(&shell, path).await.contains(" 0600 ops root 6 "));
    nothing_is_left(machine);
}

fn moded(path: &str, content: &[u8], mode: &str, owner: &str) -> Operation {
    Operation::InstallFile {
        path: path.to_owned(),
        sha256: Digest::of(content),
        mode: mode.to_owned(),
        owner: owner.to_owned(),
        group: "root".to_owned(),
    }
}

/// No staged sibling and no list of one.
fn nothing_is_left(machine: &Machine) {
    let left = "find / -xdev -name '.trueup-*' -o -path '/var/lib/trueup/staged/*'";
    assert_eq!(machine.sh(left).unwrap(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_on_files() {
    let bed = bed(1);
    let machine = bed.machine("m1");
    let shell = shell(&bed, "m1", "root");
    machine
        .sh("cd /etc; echo same >adopt; echo mine >differs; ln -s adopt link; mkdir folder; echo keep >foreign")
        .unwrap();
    let adopt = |path: &str| Operation::AdoptFile {
        path: path.to_owned(),
        sha256: Digest::of(b"same\n"),
    };
    let unchanged = |path: &str| Operation::Unchanged {
        path: path.to_owned(),
        sha256: Digest::of(b"same\n"),
    };
    let remove = |path: &str| Operation::RemoveFile {
        path: path.to_owned(),
    };
    let cases = [
        (vec![adopt("/etc/adopt")], 0),
        (vec![adopt("/etc/differs")], JobExit::CONTENT_DIFFERS),
        (vec![unchanged("/etc/adopt")], 0),
        (vec![unchanged("/etc/differs")], JobExit::CONTENT_DIFFERS),
        (vec![unchanged("/etc/nothing")], JobExit::CONTENT_DIFFERS),
        (vec![adopt("/etc/link")], 76),
        (vec![adopt("/etc/nothing")], JobExit::CONTENT_DIFFERS),
        (
            vec![install("/etc/x", b"never staged")],
            JobExit::STAGE_LOST,
        ),
        (vec![install("/etc/folder", b"x")], 76),
        (vec![install("/etc/link", b"x")], 76),
        (vec![remove("/etc/foreign")], 77),
        (vec![remove("/etc/adopt"), remove("/etc/adopt")], 0),
        (vec![remove("/etc/nothing")], 0),
    ];
    for (number, (operations, want)) in cases.into_iter().enumerate() {
        let said = format!("{operations:?}");
        let job = job("case", u64::try_from(number).unwrap(), operations);
        let (code, output) = perform(&shell, &job).await;
        assert_eq!(code, want, "{said}: {output}");
        assert_eq!(output.is_empty(), want == 0, "{said}: {output}");
    }
    assert_eq!(
        machine.sh("cat /etc/differs /etc/foreign").unwrap(),
        "mine\nkeep\n"
    );
    assert_eq!(machine.sh("readlink /etc/link").unwrap(), "adopt\n");
    assert_eq!(told(&shell, "/etc/adopt").await, "absent");
    assert!(owned(&look(&shell, &[]).await).is_empty());
}

/// Names and bytes that would be code, options, patterns or ends of lines elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_and_bytes_are_only_names_and_bytes() {
    let bed = bed(1);
    let machine = bed.machine("m1");
    let shell = shell(&bed, "m1", "ops");
    let mut all_bytes: Vec<u8> = (0..=255).collect();
    all_bytes.extend_from_slice(b"\n\n$(touch /pwned)\0");
    let contents: [&[u8]; 4] = [b"", b"\n\n\n", b"'; touch /pwned; '", &all_bytes];
    let names = [
        "-rf",
        "a b",
        " lead",
        "trail ",
        "it's",
        "\"q\"",
        "$(touch /pwned)",
        "`touch /pwned`",
        "; touch /pwned",
        "& touch /pwned &",
        "| tee /pwned",
        "*",
        "?[a-z]",
        "~",
        "~root",
        "$HOME",
        "${IFS}",
        "back\\slash",
        "back\\nslash",
        "%s%n",
        "ä€😀",
        "--help",
        "-",
        "...",
        "a=b",
        "#x",
        "!x",
        "{a,b}",
        "<x>",
        "=x",
        "file absent",
        "end",
        "x~",
        ".hidden",
    ];
    let paths: Vec<String> = names
        .iter()
        .map(|name| format!("/srv/t/{name}/{name}"))
        .collect();
    let mut operations = Vec::new();
    let files = paths.iter().zip(contents.iter().cycle());
    for (path, content) in files.clone() {
        operations.push(install(path, content));
    }
    let job = job("hostile", 1, operations);
    for (path, content) in files.clone() {
        stage(&shell, &job, path, content).await;
    }
    assert_eq!(perform(&shell, &job).await, (0, String::new()));
    let asked: Vec<&str> = paths.iter().map(String::as_str).collect();
    let reply = look(&shell, &asked).await;
    let record = owned(&reply);
    for (path, content) in files {
        let seen = value(&reply, &format!("file {path}")).unwrap();
        assert!(
            seen.starts_with(&format!("file {} ", Digest::of(content))),
            "{path}: {seen}"
        );
        let line = reply
            .lines
            .iter()
            .find(|(key, _)| *key == format!("content {path}"));
        assert_eq!(line.unwrap().1, *content, "{path}");
        assert!(record.contains(path), "{path}");
        let secret = shell.read_secret(path).await.unwrap().unwrap();
        assert_eq!(secrecy::ExposeSecret::expose_secret(&secret), *content);
    }
    nothing_is_left(machine);
    assert_eq!(machine.exec("test -e /pwned").unwrap().code, Some(1));
    assert_eq!(
        machine.sh("find /srv/t -type f | wc -l").unwrap().trim(),
        names.len().to_string()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_look_at_everything() {
    let bed = bed(1);
    let machine = bed.machine("m1");
    let shell = shell(&bed, "m1", "root");
    machine
        .sh("mkfifo /etc/a-fifo; ln -s /etc/passwd /etc/a-link; truncate -s 3M /etc/big; \
             head -c 70000 /dev/zero >/etc/large; mkdir -p /etc/rancher/k3s/config.yaml.d; \
             echo a: 1 >/etc/rancher/k3s/config.yaml.d/10-a.yaml; \
             mkdir -p /var/lib/rancher/k3s/server/db/etcd/member; \
             printf '#!/bin/sh\\necho k3s version v1.33.4+k3s1 '\\''(abc)'\\''\\necho go\\n' >/usr/local/bin/k3s; \
             chmod 755 /usr/local/bin/k3s")
        .unwrap();
    let request = ProbeRequest {
        files: [
            "/etc/a-fifo",
            "/etc/a-link",
            "/etc/big",
            "/etc/large",
            "/etc",
            "/etc/passwd/x",
            "/proc/1/mem",
        ]
        .iter()
        .map(|path| ((*path).to_owned(), true))
        .collect(),
        sysctls: ["net.core.somaxconn", "net.ipv4.tcp_rmem", "net.no.such"]
            .map(str::to_owned)
            .to_vec(),
        units: ["ssh.service", "no-such.service", "multi-user.target"]
            .map(str::to_owned)
            .to_vec(),
        free: ["/", "/no/such/place"].map(str::to_owned).to_vec(),
    };
    let begun = std::time::Instant::now();
    let reply = shell.probe(&request).await.unwrap();
    let first = begun.elapsed();
    let begun = std::time::Instant::now();
    let reply_again = shell.probe(&request).await.unwrap();
    println!("probe: {first:?} with login, then {:?}", begun.elapsed());
    for (key, want) in [
        ("init", "systemd"),
        ("file /etc/a-fifo", "other fifo"),
        ("file /etc/a-link", "other symlink"),
        ("file /etc", "other directory"),
        ("file /etc/passwd/x", "absent"),
        ("k3s-datastore", "etcd"),
        ("dropin /etc/rancher/k3s/config.yaml.d/10-a.yaml", "a: 1\n"),
        ("hostname", "m1"),
        ("script", "1"),
        ("os", "debian 12"),
    ] {
        assert_eq!(value(&reply, key).as_deref(), Some(want), "{key}");
    }
    let zeros = Digest::of(&vec![0; 3 * 1024 * 1024]);
    for reply in [&reply, &reply_again] {
        let big = value(reply, "file /etc/big").unwrap();
        assert!(
            big.starts_with(&format!("file {zeros} 0644 root root 3145728 ")),
            "{big}"
        );
        let k3s = value(reply, "k3s-binary").unwrap();
        assert!(k3s.ends_with(" k3s version v1.33.4+k3s1 (abc)"), "{k3s}");
    }
    assert!(
        value(&reply, "content /etc/large").is_none(),
        "more than 64 KiB"
    );
    assert!(
        value(&reply, "sysctl net.core.somaxconn")
            .unwrap()
            .parse::<u32>()
            .unwrap()
            > 10
    );
    assert_eq!(
        value(&reply, "sysctl net.ipv4.tcp_rmem")
            .unwrap()
            .split_whitespace()
            .count(),
        3
    );
    assert!(value(&reply, "sysctl net.no.such").is_none());
    let ssh = value(&reply, "unit ssh.service").unwrap();
    assert!(
        ssh.contains("ActiveState=active\n") && ssh.contains("LoadState=loaded\n"),
        "{ssh}"
    );
    let started = ssh
        .lines()
        .find_map(|line| line.strip_prefix("ExecMainStartTimestamp="))
        .unwrap();
    assert!(started.parse::<i64>().unwrap() > 1_600_000_000, "{started}");
    assert!(
        value(&reply, "unit no-such.service")
            .unwrap()
            .contains("LoadState=not-found")
    );
    assert!(
        value(&reply, "free /no/such/place")
            .unwrap()
            .parse::<u64>()
            .unwrap()
            > 1_000_000
    );
    assert!(value(&reply, "owner").is_none());
    let written = machine.exec("test -e /var/lib/trueup").unwrap();
    assert_eq!(written.code, Some(1), "looking writes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_leaves_nothing() {
    let bed = bed(1);
    let machine = bed.machine("m1");
    let shell = shell(&bed, "m1", "root");
    machine
        .sh("mkdir /small && mount -t tmpfs -o size=256k none /small")
        .unwrap();
    let job = job("full", 1, vec![install("/small/f", &[7; 600_000])]);
    let error = try_stage(&shell, &job, "/small/f", &[7; 600_000])
        .await
        .unwrap_err();
    assert!(matches!(error, NodeError::NoSpace { .. }), "{error}");
    // Room by the count of blocks, but none for the bytes: the disk fills meanwhile.
    machine.sh("mount -o remount,nr_inodes=3 /small").unwrap();
    machine
        .sh("touch /small/a /small/b 2>/dev/null || true")
        .unwrap();
    let error = try_stage(&shell, &job, "/small/f", b"x").await.unwrap_err();
    assert!(matches!(error, NodeError::NoSpace { .. }), "{error}");
    assert!(!machine.sh("ls -A /small").unwrap().contains("trueup"));
    // trueup's own place is full: the job does not begin, and that is told.
    machine
        .sh("mkdir -p /var/lib/trueup && mount -t tmpfs -o size=32k none /var/lib/trueup && head -c 30000 /dev/zero >/var/lib/trueup/fill")
        .unwrap();
    let other = crate::world::job("other", 1, vec![Operation::DaemonReload]);
    let error = shell.start(&other).await.unwrap_err();
    assert!(matches!(error, NodeError::NoSpace { .. }), "{error}");
    machine
        .sh("rm /var/lib/trueup/fill; mount -o remount,size=4m /var/lib/trueup")
        .unwrap();
    assert_eq!(perform(&shell, &other).await, (0, String::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_inside_a_job_has_its_code() {
    let bed = bed(1);
    let machine = bed.machine("m1");
    let shell = shell(&bed, "m1", "root");
    machine
        .sh("mkdir -p /var/lib/trueup && mount -t tmpfs -o size=512k none /var/lib/trueup; touch /etc/a; umask 077; \
             printf 'claim\\tdGVzdGVy\\t1\\n' >/var/lib/trueup/owner")
        .unwrap();
    let adopt = Operation::AdoptFile {
        path: "/etc/a".to_owned(),
        sha256: Digest::of(b""),
    };
    // A unit of ours fills the place in the middle of the job.
    machine
        .put_file(
            "/etc/systemd/system/fill.service",
            0o644,
            "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'cat /dev/zero >/var/lib/trueup/fill || true'\n",
        )
        .unwrap();
    let fill = Operation::Systemctl {
        verb: trueup_model::job::SystemctlVerb::Start,
        unit: "fill.service".to_owned(),
    };
    let job = job("filled", 1, vec![Operation::DaemonReload, fill, adopt]);
    let (code, output) = perform(&shell, &job).await;
    assert_eq!(code, JobExit::NO_SPACE, "{output}");
    assert_eq!(
        machine.sh("cat /var/lib/trueup/owner").unwrap(),
        "claim\tdGVzdGVy\t1\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_job_staged_is_cleaned() {
    let bed = bed(1);
    let machine = bed.machine("m1");
    let shell = shell(&bed, "m1", "root");
    let dead = job("dead", 1, vec![]);
    let before = machine.sh("ls /opt").unwrap();
    stage(&shell, &dead, "/opt/deep/er/secret", b"a secret").await;
    let mode = machine.sh("stat -c %a /opt/deep/er/.trueup-*").unwrap();
    assert_eq!(mode, "600\n");
    put(&shell, "/etc/other", b"x").await;
    assert_eq!(
        machine.sh("ls -A /opt/deep/er | wc -l").unwrap().trim(),
        "1",
        "it may still begin"
    );
    machine
        .sh("touch -d '2 hours ago' /var/lib/trueup/staged/*")
        .unwrap();
    put(&shell, "/etc/another", b"x").await;
    assert_eq!(
        machine.sh("ls /opt").unwrap(),
        before,
        "nor the folders that were made for it"
    );
    nothing_is_left(machine);
}
