//! Machines boot, keep their disks, lose their power and their cable.

use trueup_bed::{Bed, BedSpec, cache::Cache, digest::RESTLESS};

#[test]
fn two_machines_are_two_machines() {
    let bed = Bed::start(BedSpec::with_machines(2).env("BED_WORD", "hello there")).unwrap();
    let (one, two) = (bed.machine("m1"), bed.machine("m2"));

    assert_eq!(one.sh("hostname").unwrap().trim(), "m1");
    assert_ne!(
        one.sh("cat /etc/machine-id").unwrap(),
        two.sh("cat /etc/machine-id").unwrap()
    );
    assert_ne!(one.host_key_openssh(), two.host_key_openssh());
    assert_eq!(one.sh("printenv BED_WORD").unwrap(), "hello there\n");
    assert_eq!(
        one.exec_ssh("ops", "sudo -n id -u; printenv BED_WORD")
            .unwrap()
            .ok()
            .unwrap(),
        "0\nhello there\n"
    );
    assert_eq!(two.exec_ssh("root", "exit 7").unwrap().code, Some(7));
    one.sh("ping -c1 -W2 m2").unwrap();
    one.sh("ping -c1 -W2 bed-host").unwrap();
    one.wait_booted().unwrap();

    // A service of one machine stays alive when its namesake on the other is killed.
    for machine in [one, two] {
        machine
            .sh("systemd-run --unit=same --quiet sleep infinity")
            .unwrap();
    }
    one.sh("systemctl stop same").unwrap();
    assert_eq!(two.sh("systemctl is-active same").unwrap(), "active\n");
}

#[test]
fn a_power_cut_loses_the_run_and_keeps_the_disk() {
    let bed = Bed::start(BedSpec::with_machines(1)).unwrap();
    let machine = bed.machine("m1");
    let id = machine.sh("cat /etc/machine-id").unwrap();
    machine.put_file("/etc/kept", 0o640, "kept\n").unwrap();
    machine
        .put_file("/var/lib/rancher/k3s/db", 0o600, "plain\n")
        .unwrap();
    machine.sh("touch /run/lost").unwrap();

    machine.power_cut().unwrap();
    assert!(!machine.is_on());
    assert!(machine.exec("true").is_err());
    assert_eq!(machine.read_text("/etc/kept").unwrap(), "kept\n");
    machine.power_on().unwrap();
    assert_eq!(machine.sh("cat /etc/machine-id").unwrap(), id);
    assert_eq!(
        machine
            .sh("cat /etc/kept /var/lib/rancher/k3s/db; stat -c %a /etc/kept")
            .unwrap(),
        "kept\nplain\n640\n"
    );
    assert_eq!(machine.exec("test -e /run/lost").unwrap().code, Some(1));

    machine.reboot().unwrap();
    assert_eq!(machine.boots(), 3);
    assert_eq!(machine.sh("cat /etc/kept").unwrap(), "kept\n");
    machine.power_off().unwrap();
    machine.power_on().unwrap();
}

#[test]
fn a_machine_without_its_cable_is_unreachable_and_alive() {
    let bed = Bed::start(BedSpec::with_machines(2)).unwrap();
    let (one, two) = (bed.machine("m1"), bed.machine("m2"));
    two.link_down().unwrap();
    assert_ne!(one.exec("ping -c1 -W1 m2").unwrap().code, Some(0));
    assert_eq!(two.sh("echo alive").unwrap(), "alive\n");
    two.link_up().unwrap();
    two.wait_ssh().unwrap();
    one.sh("ping -c1 -W5 m2").unwrap();
}

#[test]
fn a_snapshot_brings_back_files_and_deletions() {
    let bed = Bed::start(BedSpec::with_machines(1)).unwrap();
    let machine = bed.machine("m1");
    machine
        .sh("rm /etc/issue && echo before >/etc/state && rm -rf /etc/apt && mkdir /etc/apt")
        .unwrap();
    machine.power_off().unwrap();
    let before = machine.tree_digest(&RESTLESS).unwrap();
    machine.snapshot("s").unwrap();

    machine.power_on().unwrap();
    machine
        .sh("echo later >/etc/state; echo new >/etc/new; echo back >/etc/issue")
        .unwrap();
    machine.power_off().unwrap();
    let changed = before.changes_to(&machine.tree_digest(&RESTLESS).unwrap());
    assert_eq!(changed, ["~ /etc/issue", "+ /etc/new", "~ /etc/state"]);

    machine.restore("s").unwrap();
    assert_eq!(
        before.changes_to(&machine.tree_digest(&RESTLESS).unwrap()),
        [""; 0]
    );
    machine.power_on().unwrap();
    assert_eq!(
        machine
            .sh("cat /etc/state; ls /etc/issue /etc/apt 2>/dev/null || true")
            .unwrap(),
        "before\n/etc/apt:\n"
    );
}

#[test]
fn machines_see_programs_of_the_cache_and_keep_network_settings_to_themselves() {
    let bin = Cache::locate().bin().unwrap();
    let bed = Bed::start(BedSpec::named(&["one", "two"]).bind_ro(bin, "/opt/k8s")).unwrap();
    let (one, two) = (bed.machine("one"), bed.machine("two"));
    assert!(one.sh("/opt/k8s/etcd --version").unwrap().contains("3.6."));
    assert_ne!(one.exec("touch /opt/k8s/new").unwrap().code, Some(0));

    let before = two.sh("sysctl -n net.core.somaxconn").unwrap();
    one.sh("sysctl -qw net.core.somaxconn=777").unwrap();
    assert_eq!(one.sh("sysctl -n net.core.somaxconn").unwrap(), "777\n");
    assert_eq!(two.sh("sysctl -n net.core.somaxconn").unwrap(), before);
}

#[test]
fn a_machine_that_looks_and_does_nothing_changes_nothing() {
    let bed = Bed::start(BedSpec::with_machines(1)).unwrap();
    let machine = bed.machine("m1");
    machine.wait_booted().unwrap();
    let before = machine.tree_digest(&RESTLESS).unwrap();
    machine
        .exec_ssh(
            "root",
            "cat /etc/os-release; systemctl list-units; ls -R /etc",
        )
        .unwrap()
        .ok()
        .unwrap();
    machine
        .exec_ssh("ops", "sudo -n true")
        .unwrap()
        .ok()
        .unwrap();
    machine.sh("touch /tmp/ignored").unwrap();
    assert_eq!(
        before.changes_to(&machine.tree_digest(&RESTLESS).unwrap()),
        [""; 0]
    );
    machine.sh("touch /etc/noticed").unwrap();
    assert_eq!(
        before.changes_to(&machine.tree_digest(&RESTLESS).unwrap()),
        ["+ /etc/noticed"]
    );
}
