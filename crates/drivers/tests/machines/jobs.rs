//! Jobs: done once, by whom the machine belongs to, whatever dies meanwhile.

use std::time::{Duration, Instant};

use trueup_bed::Machine;
use trueup_bed::wait::wait_until;
use trueup_model::id::{Claim, Digest};
use trueup_model::job::{JobExit, JobSpec, JobState, Operation, SystemctlVerb};
use trueup_model::port::{NodeError, NodeShell};

use crate::world::{bed, job, look, perform, shell, value};

/// A unit that runs `script` when it is started.
fn unit(machine: &Machine, name: &str, script: &str) {
    let text = format!("[Service]\nType=oneshot\nExecStart=/bin/sh -c '{script}'\n");
    let path = format!("/etc/systemd/system/{name}.service");
    machine.put_file(&path, 0o644, text).unwrap();
    machine.sh("systemctl daemon-reload").unwrap();
}

fn start_unit(name: &str) -> Operation {
    Operation::Systemctl {
        verb: SystemctlVerb::Start,
        unit: format!("{name}.service"),
    }
}

/// A unit that ends when the file /run/go exists.
fn slow_unit(machine: &Machine) {
    unit(
        machine,
        "slow",
        "touch /run/begun; while [ ! -e /run/go ]; do sleep 0.1; done; echo x >>/run/count",
    );
}

fn wait_begun(machine: &Machine) {
    let begun = || machine.exec("test -e /run/begun").unwrap().code == Some(0);
    wait_until("the job to begin", Duration::from_secs(20), begun).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn started_twice_is_done_once() {
    let bed = bed(1);
    let machine = bed.machine("m1");
    let shell = shell(&bed, "m1", "root");
    unit(machine, "counting", "echo x >>/run/count");
    let job = job("count", 1, vec![start_unit("counting")]);
    assert_eq!(shell.job(&job.id, 0).await.unwrap(), JobState::Absent);
    assert_eq!(perform(&shell, &job).await, (0, String::new()));
    assert_eq!(perform(&shell, &job).await, (0, String::new()));
    let together = futures::future::join_all((0..4).map(|_| perform(&shell, &job))).await;
    assert!(together.iter().all(|(code, _)| *code == 0));
    assert_eq!(machine.sh("cat /run/count").unwrap(), "x\n");
    let other = JobSpec {
        operations: vec![Operation::DaemonReload],
        ..job
    };
    match shell.start(&other).await.unwrap_err() {
        NodeError::Failed {
            code: 79, output, ..
        } => assert!(output.contains("another intent")),
        other => panic!("{other}"),
    }
    // Its folder holds no content, only names and digests, for root alone.
    let folder = format!(
        "stat -c '%a %n' /var/lib/trueup/jobs/{0} /var/lib/trueup/jobs/{0}/*",
        other.id
    );
    let modes = machine.sh(&folder).unwrap();
    assert!(
        modes
            .lines()
            .all(|line| line.starts_with("700 ") || line.starts_with("600 ")),
        "{modes}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_machine_knows_whose_it_is() {
    let bed = bed(1);
    let shell = shell(&bed, "m1", "root");
    let claims = [
        ("a", 5, false, 0),
        ("a", 4, false, JobExit::STALE_EPOCH),
        ("a", 5, false, 0),
        ("b", 9, false, JobExit::OTHER_HOLDER),
        ("b", 5, true, JobExit::STALE_EPOCH),
        ("b", 6, true, 0),
        ("b", 6, true, 0),
        ("b", 7, false, 0),
        ("a", 5, false, JobExit::OTHER_HOLDER),
        ("it's \"a\" $(touch /pwned)", 8, true, 0),
        ("b", 7, false, JobExit::OTHER_HOLDER),
    ];
    for (number, (holder, epoch, take_over, want)) in claims.into_iter().enumerate() {
        let spec = JobSpec {
            claim: Claim {
                holder: holder.to_owned(),
                epoch,
            },
            take_over,
            ..job("claim", u64::try_from(number).unwrap(), vec![])
        };
        let (code, output) = perform(&shell, &spec).await;
        assert_eq!(code, want, "{number}: {output}");
        if want == JobExit::OTHER_HOLDER {
            assert!(output.contains("held by "), "{output}");
        }
    }
    // A record that nobody of us wrote is not read as "nobody's".
    let machine = bed.machine("m1");
    for damaged in ["", "garbage\n", "claim\tYQ==\tmany\n"] {
        machine
            .put_file("/var/lib/trueup/owner", 0o600, damaged)
            .unwrap();
        let spec = job(&format!("damaged{damaged}"), 1, vec![]);
        assert_eq!(perform(&shell, &spec).await.0, 78, "{damaged:?}");
        assert_eq!(machine.read_text("/var/lib/trueup/owner").unwrap(), damaged);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_on_when_ssh_or_trueup_dies() {
    let bed = bed(1);
    let machine = bed.machine("m1");
    slow_unit(machine);
    let job = job("slow", 1, vec![start_unit("slow")]);
    {
        let first = shell(&bed, "m1", "ops");
        first.start(&job).await.unwrap();
        wait_begun(machine);
        machine.sh("kill $(pgrep -u ops -x sshd)").unwrap();
        // The same shell finds its way back.
        assert_eq!(first.job(&job.id, 0).await.unwrap(), JobState::Running);
        let begun = Instant::now();
        assert_eq!(first.job(&job.id, 1).await.unwrap(), JobState::Running);
        assert!(begun.elapsed() >= Duration::from_millis(900));
    }
    let second = shell(&bed, "m1", "root");
    let reply = look(&second, &[]).await;
    assert_eq!(
        value(&reply, &format!("job {}", job.id)).unwrap(),
        "running"
    );
    second.start(&job).await.unwrap();
    let waiting = tokio::spawn(async move { (second.job(&job.id, 30).await, Instant::now()) });
    machine.sh("touch /run/go").unwrap();
    let gone = Instant::now();
    let (state, seen) = waiting.await.unwrap();
    assert_eq!(
        state.unwrap(),
        JobState::Ended {
            code: 0,
            output: String::new()
        }
    );
    println!("the end was seen after {:?}", seen - gone);
    assert_eq!(machine.sh("cat /run/count").unwrap(), "x\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_machine_was_doing_when_it_went_down_is_unknown() {
    let bed = bed(1);
    let machine = bed.machine("m1");
    let shell = shell(&bed, "m1", "root");
    slow_unit(machine);
    for (number, goes_down) in [Machine::power_cut, Machine::power_off]
        .into_iter()
        .enumerate()
    {
        let job = job(
            "down",
            u64::try_from(number).unwrap(),
            vec![start_unit("slow")],
        );
        shell.start(&job).await.unwrap();
        wait_begun(machine);
        goes_down(machine).unwrap();
        machine.power_on().unwrap();
        assert_eq!(
            shell.job(&job.id, 0).await.unwrap(),
            JobState::Unknown,
            "{number}"
        );
        let reply = look(&shell, &[]).await;
        assert_eq!(
            value(&reply, &format!("job {}", job.id)).unwrap(),
            "unknown"
        );
        // It is not begun anew.
        shell.start(&job).await.unwrap();
        assert_eq!(
            shell.job(&job.id, 1).await.unwrap(),
            JobState::Unknown,
            "{number}"
        );
    }
    // What had ended before stays known.
    let done = job("done", 1, vec![]);
    assert_eq!(perform(&shell, &done).await.0, 0);
    machine.reboot().unwrap();
    assert!(matches!(
        shell.job(&done.id, 0).await.unwrap(),
        JobState::Ended { code: 0, .. }
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn how_jobs_end() {
    let bed = bed(1);
    let machine = bed.machine("m1");
    let shell = shell(&bed, "m1", "root");
    slow_unit(machine);
    unit(machine, "failing", "echo a word for the journal; exit 3");
    unit(machine, "good", "true");
    let late = JobSpec {
        timeout_s: 1,
        ..job("late", 1, vec![start_unit("slow")])
    };
    assert_eq!(perform(&shell, &late).await.0, 124);
    machine.sh("touch /run/go; systemctl stop slow").unwrap();
    let failing = job(
        "failing",
        1,
        vec![start_unit("failing"), start_unit("good")],
    );
    let (code, output) = perform(&shell, &failing).await;
    assert_eq!(code, 80);
    assert!(output.contains("failing.service"), "{output}");
    assert!(output.contains("ExecMainStatus=3"), "{output}");
    let missing = job("missing", 1, vec![start_unit("nothing")]);
    let (code, output) = perform(&shell, &missing).await;
    assert_eq!(code, 80);
    assert!(output.contains("not found"), "{output}");
    // Killed without a word.
    machine.sh("rm -f /run/go /run/begun").unwrap();
    let killed = job("killed", 1, vec![start_unit("slow")]);
    shell.start(&killed).await.unwrap();
    wait_begun(machine);
    machine
        .sh(&format!("systemctl kill -s KILL trueup-{}", killed.id))
        .unwrap();
    assert_eq!(shell.job(&killed.id, 20).await.unwrap(), JobState::Unknown);
    machine.sh("touch /run/go").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_writer_at_a_time() {
    let bed = bed(1);
    let machine = bed.machine("m1");
    let shell = shell(&bed, "m1", "root");
    slow_unit(machine);
    let first = job("first", 1, vec![start_unit("slow")]);
    let second = job("second", 1, vec![]);
    shell.start(&first).await.unwrap();
    wait_begun(machine);
    shell.start(&second).await.unwrap();
    assert_eq!(
        shell.job(&second.id, 1).await.unwrap(),
        JobState::Running,
        "it waits"
    );
    machine.sh("touch /run/go").unwrap();
    assert!(matches!(
        shell.job(&second.id, 20).await.unwrap(),
        JobState::Ended { code: 0, .. }
    ));
    assert!(matches!(
        shell.job(&first.id, 0).await.unwrap(),
        JobState::Ended { code: 0, .. }
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_units_and_runs() {
    let bed = bed(1);
    let machine = bed.machine("m1");
    let shell = shell(&bed, "m1", "ops");
    machine
        .put_file(
            "/etc/systemd/system/lasting.service",
            0o644,
            "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
        )
        .unwrap();
    let lasting = |verb| Operation::Systemctl {
        verb,
        unit: "lasting.service".to_owned(),
    };
    let inputs = Digest::of(b"inputs");
    let sysctl = |key: &str, value: &str| Operation::Sysctl {
        key: key.to_owned(),
        value: value.to_owned(),
    };
    let up = job(
        "up",
        1,
        vec![
            sysctl("net.core.somaxconn", "3000"),
            sysctl("net.ipv4.tcp_rmem", "4096 65536 1000000"),
            Operation::DaemonReload,
            lasting(SystemctlVerb::Enable),
            lasting(SystemctlVerb::Restart),
            Operation::RecordRun {
                unit: "lasting.service".to_owned(),
                inputs: inputs.clone(),
            },
        ],
    );
    assert_eq!(perform(&shell, &up).await, (0, String::new()));
    assert_eq!(
        machine.sh("cat /proc/sys/net/core/somaxconn").unwrap(),
        "3000\n"
    );
    let invocation = machine
        .sh("systemctl show -p InvocationID --value lasting")
        .unwrap();
    let record = value(&look(&shell, &[]).await, "owner").unwrap();
    let want = format!("run\tlasting.service\t{}\t{inputs}\n", invocation.trim());
    assert!(record.ends_with(&want), "{record}");
    let down = job(
        "down",
        1,
        vec![
            lasting(SystemctlVerb::Stop),
            lasting(SystemctlVerb::Disable),
        ],
    );
    assert_eq!(perform(&shell, &down).await.0, 0);
    assert_eq!(
        machine.sh("systemctl is-active lasting || true").unwrap(),
        "inactive\n"
    );
    for (key, value) in [
        ("net.core.no_such_key", "1"),
        ("net.core.somaxconn", "not a number"),
    ] {
        let bad = job(&format!("{key}{value}"), 1, vec![sysctl(key, value)]);
        let (code, output) = perform(&shell, &bad).await;
        assert_eq!(code, 80, "{key}: {output}");
        assert!(!output.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_jobs_are_swept() {
    let bed = bed(1);
    let machine = bed.machine("m1");
    let shell = shell(&bed, "m1", "root");
    slow_unit(machine);
    let running = job("running", 1, vec![start_unit("slow")]);
    let ended = [job("ended", 1, vec![]), job("ended", 2, vec![])];
    for job in &ended {
        assert_eq!(perform(&shell, job).await.0, 0);
    }
    shell.start(&running).await.unwrap();
    wait_begun(machine);
    machine
        .sh(&format!(
            "touch -d '40 days ago' /var/lib/trueup/jobs/{} /var/lib/trueup/jobs/{}",
            ended[0].id, running.id
        ))
        .unwrap();
    assert_eq!(shell.sweep(30).await.unwrap(), 1);
    assert_eq!(shell.job(&ended[0].id, 0).await.unwrap(), JobState::Absent);
    assert!(matches!(
        shell.job(&ended[1].id, 0).await.unwrap(),
        JobState::Ended { .. }
    ));
    assert_eq!(shell.job(&running.id, 0).await.unwrap(), JobState::Running);
    // Where there are many, a new job clears up.
    machine
        .sh("cd /var/lib/trueup/jobs; for n in $(seq 300); do mkdir aa-1-$n; done; touch -d '8 days ago' aa-1-*")
        .unwrap();
    assert_eq!(perform(&shell, &job("ended", 3, vec![])).await.0, 0);
    let left = machine.sh("ls /var/lib/trueup/jobs | wc -l").unwrap();
    assert_eq!(left.trim(), "3");
    machine.sh("touch /run/go").unwrap();
}
