//! Drift in all its forms: told with where and since when, left alone while nobody
//! grants corrections, put right when somebody does; and nothing else is touched.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::rig::downtime::invocation;
use crate::rig::{ROLL_OUT, Rig, Shape, eventually, story};

/// Machines are looked at once a minute.
const A_LOOK: Duration = Duration::from_secs(150);

#[test]
fn drift() -> Result<()> {
    story(Shape::ONE_AND_TWO, |rig| {
        rig.repo
            .replace("fleet.yaml", "correctDrift: true", "correctDrift: false")?;
        let cluster = rig.repo.read("edge.yaml")?;
        let agent = "    agent:\n      options:\n        kubelet-arg: [max-pods=100]\n";
        rig.repo.write("edge.yaml", &(cluster + agent))?;
        rig.converge()?;
        let quiet = Quiet::of(rig)?;
        somebody_was_here(rig)?;
        it_is_told(rig)?;
        let commit = corrections_are_granted(rig)?;
        rig.host().wait_success(&commit, ROLL_OUT)?;
        it_is_put_right(rig)?;
        quiet.is_untouched(rig)?;
        a_machine_that_was_started_anew(rig)?;
        a_machine_that_was_cut_off(rig)?;
        a_pause_while_the_host_is_gone(rig)
    })
}

/// What nobody touched, and what is not ours.
struct Quiet {
    server: String,
}

impl Quiet {
    fn of(rig: &Rig) -> Result<Self> {
        rig.machine("m2")
            .put_file("/etc/theirs", 0o604, "theirs\n")?;
        rig.api()?
            .kubectl(&["label", "node", "m2", "example.net/theirs=yes"])?;
        Ok(Self {
            server: invocation(rig.machine("m1"))?,
        })
    }

    fn is_untouched(&self, rig: &Rig) -> Result<()> {
        ensure!(invocation(rig.machine("m1"))? == self.server);
        let theirs = rig
            .machine("m2")
            .sh("stat -c %a /etc/theirs; cat /etc/theirs")?;
        ensure!(theirs == "604\ntheirs\n", "{theirs}");
        let node = rig.api()?.get(&["node", "m2"])?;
        ensure!(
            node["metadata"]["labels"]["example.net/theirs"] == "yes",
            "{node}"
        );
        let dropin = "test -e /etc/rancher/k3s/config.yaml.d/99.yaml";
        rig.machine("m3").sh(dropin).map(drop)
    }
}

/// One of each, over the machines and the API.
fn somebody_was_here(rig: &Rig) -> Result<()> {
    rig.machine("m2")
        .sh("echo '# by hand' >>/etc/rancher/k3s/config.yaml
         echo otherwise >/etc/trueup-demo/motd
         chmod 644 /etc/trueup-demo/licence
         systemctl stop hello
         echo 512 >/proc/sys/net/core/somaxconn")?;
    rig.machine("m3")
        .sh("mkdir -p /etc/rancher/k3s/config.yaml.d
         echo 'kubelet-arg: [max-pods=90]' >/etc/rancher/k3s/config.yaml.d/99.yaml
         rm /etc/systemd/system/hello.service /etc/trueup-demo/motd
         cp /usr/local/bin/k3s /usr/local/bin/k3s.new && echo >>/usr/local/bin/k3s.new
         mv /usr/local/bin/k3s.new /usr/local/bin/k3s")?;
    let api = rig.api()?;
    api.kubectl(&["label", "node", "m2", "example.org/zone-"])?;
    api.kubectl(&[
        "label",
        "--overwrite",
        "node",
        "m3",
        "example.org/zone=other",
    ])?;
    api.kubectl(&["-n", "web", "scale", "deployment/web", "--replicas=4"])?;
    api.kubectl(&["-n", "web", "delete", "configmap", "page"])
        .map(drop)
}

/// What `status` must name: the thing, what is wrong with it, and the line that wants
/// it otherwise.
const TOLD: [(&str, &str); 12] = [
    ("/etc/rancher/k3s/config.yaml on m2", "content differs"),
    ("/etc/trueup-demo/motd on m2", "content differs"),
    (
        "/etc/trueup-demo/licence on m2",
        "its mode is 0644, not 0600",
    ),
    ("hello.service start on m2", "it is inactive"),
    ("net.core.somaxconn", "is 512, not 1024"),
    (
        "m3:/etc/rancher/k3s/config.yaml.d/99.yaml",
        "overrides kubelet-arg",
    ),
    ("/etc/systemd/system/hello.service on m3", "does not exist"),
    ("/usr/local/bin/k3s on m3", "with another digest"),
    ("node/m2", "example.org/zone is missing"),
    ("node/m3", "example.org/zone is \"other\""),
    ("Deployment/web/web", "spec.replicas"),
    ("ConfigMap/web/page", "somebody deleted it"),
];

fn it_is_told(rig: &Rig) -> Result<()> {
    let host = rig.host();
    let missing = |status: &str| -> Vec<&'static str> {
        let told = TOLD.iter().filter(|(what, how)| {
            !status
                .lines()
                .any(|line| line.contains(what) && line.contains(how))
        });
        told.map(|(what, _)| *what).collect()
    };
    let mut last = String::new();
    let told = eventually("all of it in the status", A_LOOK, || {
        last = host.trueup_ends("status", 0)?.stdout;
        Ok(missing(&last).is_empty().then_some(()))
    });
    told.with_context(|| format!("not told: {:?} in\n{last}", missing(&last)))?;
    let lines = last.lines().filter(|line| line.contains("held:"));
    for line in lines {
        ensure!(line.contains(".yaml:"), "from which line: {line}");
        ensure!(line.contains("(for "), "since when: {line}");
    }
    let commit = rig.repo.git(&["rev-parse", "HEAD"])?;
    let drift = host
        .newest(&commit, "drift/edge")?
        .context("a word on drift")?;
    ensure!(drift.state == "failure", "{drift:?}");
    let motd = rig.machine("m2").read_text("/etc/trueup-demo/motd")?;
    ensure!(motd == "otherwise\n", "it is left alone: {motd}");
    let web = rig.api()?.get(&["-n", "web", "deployment", "web"])?;
    ensure!(web["spec"]["replicas"] == 4);
    Ok(())
}

fn corrections_are_granted(rig: &Rig) -> Result<String> {
    rig.repo
        .replace("fleet.yaml", "correctDrift: false", "correctDrift: true")?;
    rig.repo.push("corrections")
}

fn it_is_put_right(rig: &Rig) -> Result<()> {
    let look = "stat -c %a /etc/trueup-demo/licence
        cat /etc/trueup-demo/motd
        systemctl is-active hello k3s-agent
        cat /proc/sys/net/core/somaxconn
        grep -c 'by hand' /etc/rancher/k3s/config.yaml || true
        k3s --version | head -1 | cut -d' ' -f3";
    for name in ["m2", "m3"] {
        let told = rig.machine(name).sh(look)?;
        let wanted = "600\nkept true by trueup\nactive\nactive\n1024\n0\nv1.36.3+k3s1\n";
        ensure!(told == wanted, "{name}: {told}");
        let node = rig.api()?.get(&["node", name])?;
        let zone = &node["metadata"]["labels"]["example.org/zone"];
        ensure!(*zone == format!("z-{name}"), "{node}");
    }
    let web = rig.api()?.get(&["-n", "web", "deployment", "web"])?;
    ensure!(web["spec"]["replicas"] == 2);
    rig.api()?
        .get(&["-n", "web", "configmap", "page"])
        .map(drop)
}

fn wait_true(rig: &Rig) -> Result<()> {
    eventually("a fleet that is true", ROLL_OUT, || {
        let status = rig.host().status()?;
        let units = status["units"].as_array().cloned().unwrap_or_default();
        let all = units.iter().all(|unit| unit["state"] == "true");
        Ok((all && !units.is_empty()).then_some(()))
    })
}

/// A reboot is no drift: what systemd starts again is left to it.
fn a_machine_that_was_started_anew(rig: &Rig) -> Result<()> {
    wait_true(rig)?;
    let machine = rig.machine("m2");
    machine.reboot()?;
    eventually("the Node", ROLL_OUT, || {
        Ok((rig.api()?.ready_nodes()? == rig.shape.members()).then_some(()))
    })?;
    let started = invocation(machine)?;
    let commit = rig.repo.push("a commit like any other")?;
    rig.host().wait_success(&commit, ROLL_OUT)?;
    ensure!(invocation(machine)? == started, "k3s was started twice");
    let sysctl = machine.sh("cat /proc/sys/net/core/somaxconn")?;
    ensure!(sysctl == "1024\n", "{sysctl}");
    Ok(())
}

fn a_machine_that_was_cut_off(rig: &Rig) -> Result<()> {
    let machine = rig.machine("m3");
    let started = invocation(machine)?;
    machine.link_down()?;
    eventually("the word on it", A_LOOK, || {
        let status = rig.host().trueup_ends("status", 0)?.stdout;
        Ok(status.contains("m3 (unknown)").then_some(()))
    })?;
    machine.link_up()?;
    wait_true(rig)?;
    ensure!(invocation(machine)? == started, "k3s was restarted");
    Ok(())
}

/// Somebody scales a Deployment at three in the morning and needs it to stay, while
/// trueup's host is down: the annotation is honoured by whoever comes back.
fn a_pause_while_the_host_is_gone(rig: &Rig) -> Result<()> {
    let host = rig.host();
    host.stop()?;
    let api = rig.api()?;
    let owner = ["-n", "trueup-system", "annotate", "configmap", "owner"];
    let annotate = |word: &str| {
        let mut args = owner.to_vec();
        args.push(word);
        api.kubectl(&args)
    };
    annotate("trueup.dev/pause=incident 4711")?;
    api.kubectl(&["-n", "web", "scale", "deployment/web", "--replicas=6"])?;
    host.start()?;
    let status = eventually("the pause", A_LOOK, || {
        let status = host.trueup_ends("status", 0)?.stdout;
        let told = status.contains("incident 4711") && status.contains("Deployment/web/web");
        Ok(told.then_some(status))
    })?;
    ensure!(status.contains("trueup.dev/pause-"), "{status}");
    let web = api.get(&["-n", "web", "deployment", "web"])?;
    ensure!(web["spec"]["replicas"] == 6);
    annotate("trueup.dev/pause-")?;
    eventually("the repair", A_LOOK, || {
        let web = api.get(&["-n", "web", "deployment", "web"])?;
        Ok((web["spec"]["replicas"] == 2).then_some(()))
    })
}
