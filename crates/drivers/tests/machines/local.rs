//! The machine that trueup itself runs on: this very test program, run inside a
//! machine of the bed.

use trueup_drivers::ssh::LocalShell;
use trueup_model::job::JobState;
use trueup_model::port::NodeShell as _;

use crate::world::{install, job, look, perform, stage, told, value};

/// Set inside the machine.
const INSIDE: &str = "TRUEUP_TEST_INSIDE";

#[tokio::test(flavor = "multi_thread")]
async fn the_machine_that_trueup_runs_on() {
    if std::env::var_os(INSIDE).is_some() {
        return inside().await;
    }
    let program = std::env::current_exe().unwrap();
    let spec = trueup_bed::BedSpec::with_machines(1).bind_ro(&program, "/opt/test-program");
    let bed = trueup_bed::Bed::start(spec).unwrap();
    let machine = bed.machine("m1");
    let run = "/opt/test-program --exact local::the_machine_that_trueup_runs_on --nocapture";
    for user in ["root", "ops"] {
        let said = machine
            .exec_ssh(user, &format!("{INSIDE}={user} RUST_BACKTRACE=0 {run}"))
            .unwrap();
        assert_eq!(said.code, Some(0), "{user}: {}{}", said.stdout, said.stderr);
        assert!(said.stdout.contains("1 passed"), "{}", said.stdout);
    }
    let owned = machine
        .sh("cat /etc/by-root /etc/by-ops; stat -c %U /etc/by-ops")
        .unwrap();
    assert_eq!(owned, "local\nlocal\nroot\n");
}

async fn inside() {
    let user = std::env::var(INSIDE).unwrap();
    let shell = LocalShell::new();
    let path = format!("/etc/by-{user}");
    assert_eq!(told(&shell, &path).await, "absent");
    let job = job(&path, 1, vec![install(&path, b"local\n")]);
    assert_eq!(shell.job(&job.id, 0).await.unwrap(), JobState::Absent);
    stage(&shell, &job, &path, b"local\n").await;
    assert_eq!(perform(&shell, &job).await, (0, String::new()));
    assert_eq!(value(&look(&shell, &[]).await, "hostname").unwrap(), "m1");
    let secret = shell.read_secret(&path).await.unwrap().unwrap();
    assert_eq!(secrecy::ExposeSecret::expose_secret(&secret), b"local\n");
}
