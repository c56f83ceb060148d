//! What a fleet does when nobody looks, and what it refuses.

use trueup_model::id::{Claim, Digest};
use trueup_model::job::{JobExit, JobId, JobSpec, Operation};

use super::SimFleet;
use crate::fault::Fault;

const AT: &str = "192.0.2.1";
const KEY: &str = "net.core.somaxconn";

fn fleet() -> SimFleet {
    SimFleet::blank([("m1", AT)], 100, 0)
}

fn job(number: u64, holder: &str, epoch: u64) -> JobSpec {
    JobSpec {
        id: JobId::new(&Digest::of(b"step"), epoch, number),
        claim: Claim {
            holder: holder.to_owned(),
            epoch,
        },
        take_over: false,
        operations: vec![
            Operation::DaemonReload,
            Operation::Sysctl {
                key: KEY.to_owned(),
                value: number.to_string(),
            },
        ],
        timeout_s: 60,
    }
}

fn code(fleet: &SimFleet, spec: &JobSpec) -> Option<i32> {
    fleet.machines[AT].jobs[spec.id.as_str()].code
}

#[test]
fn a_job_goes_on_while_nobody_looks_and_over_a_save() {
    let (mut fleet, spec) = (fleet(), job(1, "a", 1));
    fleet.start_job(AT, &spec, 0).unwrap();
    fleet.advance(1);
    assert_eq!(code(&fleet, &spec), None);
    let mut later = SimFleet::from_json(&fleet.to_json().unwrap()).unwrap();
    assert_eq!(later, fleet);
    later.advance(60_000);
    assert_eq!(code(&later, &spec), Some(0));
    assert_eq!(later.machines[AT].sysctls[KEY], "1");
}

#[test]
fn an_older_epoch_and_another_holder_are_refused() {
    let mut fleet = fleet();
    let table = [
        (job(1, "a", 2), 0),
        (job(2, "a", 1), JobExit::STALE_EPOCH),
        (job(3, "b", 9), JobExit::OTHER_HOLDER),
        (job(4, "a", 3), 0),
    ];
    for (spec, wanted) in table {
        fleet.start_job(AT, &spec, 0).unwrap();
        fleet.advance(10_000);
        assert_eq!(code(&fleet, &spec), Some(wanted), "{spec:?}");
    }
    assert_eq!(fleet.machines[AT].sysctls[KEY], "4");
}

#[test]
fn a_power_cut_ends_a_job_without_a_word_and_settings_are_forgotten() {
    let (mut fleet, spec) = (fleet(), job(1, "a", 1));
    let before = fleet.machines[AT].sysctls[KEY].clone();
    fleet.start_job(AT, &spec, 0).unwrap();
    let machine = "m1".to_owned();
    let off = Fault::PowerOff {
        machine: machine.clone(),
    };
    fleet.befall(&off, 1).unwrap();
    fleet.befall(&Fault::PowerOn { machine }, 5000).unwrap();
    fleet.advance(60_000);
    let machine = &fleet.machines[AT];
    assert_eq!(code(&fleet, &spec), None);
    assert_ne!(machine.jobs[spec.id.as_str()].boot, machine.boot);
    assert_eq!(machine.sysctls[KEY], before);
}
