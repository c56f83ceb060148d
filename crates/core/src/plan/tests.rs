//! The planner on a bed of three servers and two agents: facts are plain values, and
//! the expectation of each step stands in for the world.

use std::collections::{BTreeMap, BTreeSet};

use trueup_model::facts::Known;
use trueup_model::facts::machine::{K3sFact, MachineFacts, ProbeRequest};
use trueup_model::id::{Claim, Digest, NodeName, UnitId};
use trueup_model::kinds::switches::Powers;
use trueup_model::kinds::{Role, RollOut, SecretRef};
use trueup_model::origin::Origin;
use trueup_model::step::{Action, Content, Disruption, FileSpec, Step};

use super::*;
use crate::desired::{DesiredCluster, DesiredK3s, DesiredMachine};
use crate::observed::{SeenCluster, probe_request};

const ALL: Powers = Powers {
    report_drift: true,
    correct_drift: true,
    roll_out: true,
};

pub(crate) fn context() -> Context {
    Context {
        claim: Claim {
            holder: "host".into(),
            epoch: 1,
        },
        take_over: false,
        ceiling: ALL,
        commit: "c".repeat(40),
        grants: BTreeSet::new(),
        allowed: None,
        paused: None,
        paused_on_cluster: None,
        paused_apps: BTreeMap::new(),
        held: None,
        backoff: BTreeMap::new(),
        settled: false,
        labels_before: BTreeMap::new(),
        now_s: 1_000_000,
    }
}

fn file(path: &str, text: &str) -> FileSpec {
    FileSpec {
        path: path.into(),
        mode: "0644".into(),
        owner: "root".into(),
        group: "root".into(),
        sha256: Digest::of(text.as_bytes()),
        content: Content::Text(text.into()),
    }
}

fn machine(name: &str, role: Role, number: u8) -> DesiredMachine {
    let origin = Origin::new("nodes.yaml", u32::from(number));
    DesiredMachine {
        name: name.parse().unwrap(),
        origin: origin.clone(),
        address: format!("192.0.2.{number}"),
        optional: false,
        powers: ALL,
        files: [(
            "/etc/motd".to_owned(),
            (file("/etc/motd", "hello\n"), origin),
        )]
        .into(),
        sysctls: BTreeMap::new(),
        units: BTreeMap::new(),
        k3s: Some(DesiredK3s {
            role,
            options: BTreeMap::new(),
        }),
        labels: BTreeMap::new(),
        taints: Vec::new(),
        broken: Vec::new(),
    }
}

pub(crate) fn bed() -> DesiredUnit {
    let machines = [
        machine("s1", Role::Server, 1),
        machine("s2", Role::Server, 2),
        machine("s3", Role::Server, 3),
        machine("w1", Role::Agent, 4),
        machine("w2", Role::Agent, 5),
    ];
    let mut token = file("/etc/rancher/k3s/trueup-token", "secret");
    token.mode = "0600".into();
    token.content = Content::Secret(SecretRef {
        secret: "s".into(),
        key: "k".into(),
    });
    DesiredUnit {
        id: UnitId::Cluster("edge".parse().unwrap()),
        machines: machines
            .map(|machine| (machine.name.clone(), machine))
            .into(),
        cluster: Some(DesiredCluster {
            name: "edge".parse().unwrap(),
            origin: Origin::new("cluster.yaml", 1),
            version: "v1.36.3+k3s1".into(),
            version_origin: Origin::new("cluster.yaml", 5),
            token: Ok(token),
            roll_out: RollOut::default(),
            powers: ALL,
        }),
        apps: BTreeMap::new(),
        removed: BTreeMap::new(),
    }
}

/// A machine on which there is nothing, as the probe would tell it.
fn blank(request: &ProbeRequest) -> MachineFacts {
    MachineFacts {
        boot: "b 1".into(),
        machine_id: "m".into(),
        hostname: "h".into(),
        os: "debian 12".into(),
        now_s: 1_000_000,
        owner: None,
        files: request
            .files
            .keys()
            .map(|path| (path.clone(), trueup_model::facts::machine::FileFact::Absent))
            .collect(),
        sysctls: BTreeMap::new(),
        units: BTreeMap::new(),
        k3s: K3sFact::default(),
        free_bytes: request
            .free
            .iter()
            .map(|path| (path.clone(), 1 << 40))
            .collect(),
        running_jobs: Vec::new(),
    }
}

pub(crate) fn blank_bed(desired: &DesiredUnit) -> SeenUnit {
    SeenUnit {
        machines: desired
            .machines
            .values()
            .map(|machine| {
                let facts = blank(&probe_request(machine, &[]));
                (machine.name.clone(), Known::Known(facts))
            })
            .collect(),
        cluster: Some(SeenCluster {
            release: Known::Known(Digest::of(b"k3s")),
            ..SeenCluster::default()
        }),
    }
}

/// Waves as `verb:machine` words, k3s steps only.
fn k3s_waves(plan: &UnitPlan) -> Vec<Vec<String>> {
    let word = |step: &Step| match &step.action {
        Action::StartK3s { .. } | Action::RestartK3s { .. } => {
            Some(format!("{} {}", step.action.verb(), step.target))
        }
        _ => None,
    };
    plan.waves()
        .map(|wave| wave.iter().filter_map(word).collect::<Vec<_>>())
        .filter(|wave| !wave.is_empty())
        .collect()
}

fn converged(desired: &DesiredUnit) -> SeenUnit {
    let mut seen = blank_bed(desired);
    for _ in 0..20 {
        let now = round(desired, &seen, &context());
        for step in &now.ready {
            expect::apply(&mut seen, desired, step, &context());
        }
    }
    seen
}

#[test]
fn from_nothing_servers_come_one_by_one_and_agents_last() {
    let desired = bed();
    let plan = forecast(&desired, &blank_bed(&desired), &context());
    assert_eq!(
        k3s_waves(&plan),
        [
            vec!["start s1"],
            vec!["start s2"],
            vec!["start s3"],
            vec!["start w1", "start w2"]
        ]
    );
    assert!(plan.left.is_empty(), "{:?}", plan.left);
}

#[test]
fn a_second_pass_is_empty() {
    let desired = bed();
    let seen = converged(&desired);
    let again = round(&desired, &seen, &context());
    assert!(again.is_settled(), "{again:#?}");
}

/// Somebody started k3s, and its configuration was written after that: what it runs
/// with is not what lies there.
#[test]
fn a_process_older_than_its_configuration_is_restarted() {
    let desired = bed();
    let s1 = "s1".parse().unwrap();
    for (started_s, restarts) in [(999_000, true), (1_000_001, false)] {
        let mut seen = converged(&desired);
        let Some(Known::Known(facts)) = seen.machines.get_mut(&s1) else {
            panic!("s1 was seen");
        };
        let unit = facts.units.get_mut("k3s.service").unwrap();
        unit.invocation = "somebody's".into();
        unit.started_s = started_s;
        let now = round(&desired, &seen, &context());
        let held = now.held.iter().map(|held| &held.step);
        let steps: Vec<_> = now.ready.iter().chain(held).collect();
        let restart = steps.iter().any(|step| {
            matches!(step.action, Action::RestartK3s { .. })
                && step.why.text.contains("older than its configuration")
        });
        assert_eq!(restart, restarts, "{started_s}: {steps:#?}");
    }
}

#[test]
fn what_runs_is_what_was_forecast() {
    let desired = bed();
    let mut seen = blank_bed(&desired);
    let forecast: Vec<Digest> = forecast(&desired, &seen, &context())
        .steps()
        .map(|step| step.id.clone())
        .collect();
    let mut done = Vec::new();
    loop {
        let now = round(&desired, &seen, &context());
        if now.ready.is_empty() {
            break;
        }
        for step in &now.ready {
            expect::apply(&mut seen, &desired, step, &context());
            done.push(step.id.clone());
        }
    }
    assert_eq!(done, forecast);
}

#[test]
fn a_changed_option_restarts_one_machine_at_a_time() {
    let mut desired = bed();
    let seen = converged(&desired);
    for machine in desired.machines.values_mut() {
        let k3s = machine.k3s.as_mut().unwrap();
        k3s.options.insert("debug".into(), true.into());
    }
    let plan = forecast(&desired, &seen, &context());
    assert_eq!(
        k3s_waves(&plan),
        [
            ["restart s1"],
            ["restart s2"],
            ["restart s3"],
            ["restart w1"],
            ["restart w2"]
        ]
    );
    assert!(plan.steps().all(|step| step.class == Disruption::Restart));
}

#[test]
fn another_token_is_told_and_no_k3s_is_touched() {
    let mut desired = bed();
    let seen = converged(&desired);
    let token = desired.cluster.as_mut().unwrap().token.as_mut().unwrap();
    token.sha256 = Digest::of(b"another");
    for machine in desired.machines.values_mut() {
        let k3s = machine.k3s.as_mut().unwrap();
        k3s.options.insert("debug".into(), true.into());
    }
    let now = round(&desired, &seen, &context());
    assert!(now.ready.is_empty() && now.held.is_empty(), "{now:#?}");
    assert!(
        now.waits
            .iter()
            .any(|wait| wait.kind == WaitKind::Broken && wait.reason.contains("s1")),
        "{now:#?}"
    );
}

#[test]
fn no_server_is_restarted_while_another_is_not_ready() {
    let mut desired = bed();
    let mut seen = converged(&desired);
    let k3s = desired
        .machines
        .get_mut(&name("s1"))
        .unwrap()
        .k3s
        .as_mut()
        .unwrap();
    k3s.options.insert("debug".into(), true.into());
    let cluster = seen.cluster.as_mut().unwrap();
    cluster
        .ready
        .insert(name("s2"), Known::Unknown("503".into()));
    let now = round(&desired, &seen, &context());
    assert!(now.ready.is_empty());
    assert_eq!(now.held[0].hold.gate, "quorum");
    assert!(now.held[0].hold.reason.contains("s2 is not ready"));
}

/// Asks a machine for another option.
fn change(desired: &mut DesiredUnit, machine: &str) {
    let machine = desired.machines.get_mut(&name(machine)).unwrap();
    let k3s = machine.k3s.as_mut().unwrap();
    k3s.options.insert("debug".into(), true.into());
}

fn api(seen: &mut SeenUnit) -> &mut trueup_model::facts::cluster::ClusterFacts {
    match &mut seen.cluster.as_mut().unwrap().api {
        Known::Known(api) => api,
        Known::Unknown(why) => panic!("{why}"),
    }
}

/// A cordon of a moment ago is not in what a failing watch told before.
#[test]
fn nothing_is_restarted_on_what_a_failing_watch_told() {
    for (machine, gate, reason) in [
        (
            "s1",
            "quorum",
            "whether somebody cordoned s2 is not known: 429",
        ),
        (
            "w1",
            "agents",
            "which agents are available is not known: 429",
        ),
    ] {
        let mut desired = bed();
        let mut seen = converged(&desired);
        change(&mut desired, machine);
        api(&mut seen).nodes_unheard = Some("429".into());
        let told = round(&desired, &seen, &context());
        api(&mut seen).nodes_unheard = None;
        let heard = round(&desired, &seen, &context());
        assert_eq!(heard.ready.len(), 1, "{heard:#?}");
        seen.cluster.as_mut().unwrap().api = Known::Unknown("429".into());
        let blind = round(&desired, &seen, &context());
        for now in [told, blind] {
            assert!(now.ready.is_empty(), "{now:#?}");
            let hold = &now.held[0].hold;
            assert_eq!((hold.gate, hold.reason.as_str()), (gate, reason));
        }
    }
}

#[test]
fn another_persons_cordon_counts_as_unavailable() {
    for (cordoned, machine, reason) in [
        ("s3", "s1", "somebody cordoned s3: it counts as unavailable"),
        (
            "w2",
            "w1",
            "1 of at most 1 agents are unavailable: w2 (somebody cordoned it)",
        ),
    ] {
        let mut desired = bed();
        let mut seen = converged(&desired);
        change(&mut desired, machine);
        let node = api(&mut seen).nodes.get_mut(cordoned).unwrap();
        node.unschedulable = true;
        let now = round(&desired, &seen, &context());
        assert!(now.ready.is_empty(), "{now:#?}");
        assert_eq!(now.held[0].hold.reason, reason);
    }
}

#[test]
fn an_upgrade_of_a_server_waits_for_room_for_its_binary() {
    let mut desired = bed();
    let mut seen = converged(&desired);
    desired.cluster.as_mut().unwrap().version = "v1.36.4+k3s1".into();
    seen.cluster.as_mut().unwrap().release = Known::Known(Digest::of(b"next"));
    if let Some(Known::Known(facts)) = seen.machines.get_mut(&name("s1")) {
        facts.free_bytes.insert("/usr/local/bin".into(), 50 << 20);
    }
    let now = round(&desired, &seen, &context());
    let held = now.held.iter().find(|held| held.hold.gate == "space");
    let reason = "s1 has 50 MiB free at /usr/local/bin, 96 MiB are needed";
    assert_eq!(held.unwrap().hold.reason, reason, "{now:#?}");
    // The Node's old version follows from that; it is not what a person must hear of.
    let retries = crate::engine::Retries::default();
    let word = crate::engine::judge(
        &desired,
        &Round {
            ready: vec![],
            ..now
        },
        &retries,
        false,
    );
    assert!(word.description.ends_with(reason), "{word:?}");
}

#[test]
fn a_blank_server_begins_no_second_cluster_while_another_is_dark() {
    let desired = bed();
    let mut seen = blank_bed(&desired);
    seen.machines
        .insert(name("s3"), Known::Unknown("unreachable".into()));
    let now = round(&desired, &seen, &context());
    let starts = now
        .ready
        .iter()
        .any(|step| matches!(step.action, Action::StartK3s { .. }));
    assert!(!starts);
    assert!(
        now.waits
            .iter()
            .any(|wait| wait.reason.contains("may hold the cluster's data"))
    );
}

#[test]
fn report_only_plans_everything_and_does_nothing() {
    let desired = bed();
    let mut context = context();
    context.ceiling.roll_out = false;
    let now = round(&desired, &blank_bed(&desired), &context);
    assert!(now.ready.is_empty());
    assert!(
        now.held.iter().all(|held| held.hold.gate == "power"),
        "{:#?}",
        now.held
    );
}

#[test]
fn a_live_machine_is_never_written_without_a_grant() {
    let desired = bed();
    let mut seen = blank_bed(&desired);
    if let Some(Known::Known(facts)) = seen.machines.get_mut(&name("w1")) {
        facts.k3s.binary = Some(trueup_model::facts::machine::K3sBinary {
            sha256: Digest::of(b"other"),
            version: "v1.30.0+k3s1".into(),
        });
    }
    let now = round(&desired, &seen, &context());
    let on_w1 = |step: &Step| step.target.machine() == Some(&name("w1"));
    assert!(!now.ready.iter().any(on_w1));
    let held = now.held.iter().find(|held| on_w1(&held.step)).unwrap();
    assert!(matches!(held.step.action, Action::AdoptMachine { .. }));
    assert_eq!(held.hold.gate, "grant");
}

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}
