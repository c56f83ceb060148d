//! A cluster that somebody installed by hand is taken over without a restart and
//! without a write but the ownership record.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use trueup_bed::Machine;

use crate::rig::downtime::invocation;
use crate::rig::{MGMT, ROLL_OUT, Rig, Shape, VERSION, audit, eventually, story};

#[test]
fn a_cluster_that_was_installed_by_hand() -> Result<()> {
    story(Shape::THREE_AND_TWO, |rig| {
        by_hand(rig)?;
        // A setting that nobody made lasting would be a write.
        rig.repo.replace(
            "base.yaml",
            "  sysctls:\n    net.core.somaxconn: \"1024\"\n",
            "",
        )?;
        rig.repo.push("what is there")?;
        let before = Before::of(rig)?;
        take_over(rig)?;
        before.is_untouched(rig)?;
        one_label(rig, &before)?;
        other_content_is_left_alone(rig)?;
        an_option_restarts_one_by_one(rig)
    })
}

/// As k3s' own installer does it: arguments in the unit, the token in its environment;
/// and objects by kubectl.
fn by_hand(rig: &Rig) -> Result<()> {
    let (first, token) = (rig.machine("m1"), &rig.keys.token);
    let url = format!("K3S_URL=https://{}:6443\n", first.ip());
    let audit = "'--kube-apiserver-arg=audit-log-path=/var/log/kube-audit.log' '--kube-apiserver-arg=audit-policy-file=/etc/trueup-demo/audit-policy.yaml'";
    for (index, machine) in rig.members().into_iter().enumerate() {
        let server = index < rig.shape.servers;
        let (role, unit) = if server {
            ("server", "k3s")
        } else {
            ("agent", "k3s-agent")
        };
        let mut arguments = if server {
            audit.to_owned()
        } else {
            String::new()
        };
        let mut environment = format!("K3S_TOKEN='{token}'\n");
        if index == 0 {
            arguments += " '--cluster-init' '--disable' 'traefik'";
        } else {
            environment += &url;
        }
        if server && index > 0 {
            arguments += " '--disable=traefik'";
        }
        install(rig, machine, (role, unit), &arguments, &environment)?;
    }
    rig.repo.replace(
        "edge.yaml",
        "      options:\n",
        "      options:\n        disable: [traefik]\n",
    )?;
    let manifests = rig.repo.read("apps/web/web.yaml")?;
    let path = rig.bed.scratch()?.join("by-hand.yaml");
    // The Deployment and the page by hand; the Secret is new.
    std::fs::write(&path, manifests)?;
    let api = rig.api()?;
    let namespace = api.kubectl(&["create", "namespace", "web"])?;
    ensure!(namespace.contains("created"), "{namespace}");
    api.kubectl(&["-n", "web", "apply", "-f", &path.display().to_string()])?;
    for member in rig.shape.members() {
        let label = format!("example.org/zone=z-{member}");
        api.kubectl(&["label", "node", &member, &label])?;
    }
    Ok(())
}

fn install(
    rig: &Rig,
    machine: &Machine,
    (role, unit): (&str, &str),
    arguments: &str,
    environment: &str,
) -> Result<()> {
    let base = rig.releases.base_url();
    // As k3s' installer writes it.
    let version = VERSION.replace('+', "%2B");
    machine.sh(&format!(
        "curl -fsS --noproxy '*' -o /usr/local/bin/k3s '{base}/releases/download/{version}/k3s' && chmod 755 /usr/local/bin/k3s"
    ))?;
    for (path, text) in profile_files() {
        machine.put_file(path, 0o644, text)?;
    }
    machine.put_file("/etc/trueup-demo/licence", 0o600, &rig.keys.licence)?;
    machine.put_file(
        &format!("/etc/systemd/system/{unit}.service.env"),
        0o600,
        environment,
    )?;
    let text = format!(
        "[Unit]\nDescription=Lightweight Kubernetes\nAfter=network-online.target\n[Install]\nWantedBy=multi-user.target\n[Service]\nType=notify\nEnvironmentFile=-/etc/default/%N\nEnvironmentFile=-/etc/systemd/system/{unit}.service.env\nKillMode=process\nDelegate=yes\nTimeoutStartSec=0\nRestart=always\nRestartSec=5s\nExecStart=/usr/local/bin/k3s \\\n    {role} \\\n        {arguments}\n"
    );
    machine.put_file(&format!("/etc/systemd/system/{unit}.service"), 0o644, text)?;
    machine.sh(&format!(
        "systemctl daemon-reload && systemctl enable --now hello && systemctl enable --now {unit}"
    ))?;
    Ok(())
}

/// What the profile of the config repo declares, as somebody wrote it before.
fn profile_files() -> [(&'static str, &'static str); 3] {
    [
        ("/etc/trueup-demo/motd", "kept true by trueup\n"),
        (
            "/etc/trueup-demo/audit-policy.yaml",
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n  - level: Metadata\n",
        ),
        (
            "/etc/systemd/system/hello.service",
            "[Unit]\nDescription=hello\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n",
        ),
    ]
}

/// What must not move.
struct Before {
    processes: BTreeMap<String, String>,
    files: BTreeMap<String, String>,
    objects: BTreeMap<String, Value>,
    mark: audit::Mark,
}

const OBJECTS: [&str; 3] = ["namespace/web", "deployment/web", "configmap/page"];

impl Before {
    fn of(rig: &Rig) -> Result<Self> {
        let mut processes = BTreeMap::new();
        let mut files = BTreeMap::new();
        for machine in rig.members() {
            processes.insert(machine.name().to_owned(), invocation(machine)?);
            files.insert(machine.name().to_owned(), listing(machine)?);
        }
        let mut objects = BTreeMap::new();
        for object in OBJECTS {
            objects.insert(object.to_owned(), fixed(rig, object)?);
        }
        Ok(Self {
            processes,
            files,
            objects,
            mark: audit::mark(rig),
        })
    }

    fn same_processes(&self, rig: &Rig) -> Result<()> {
        for machine in rig.members() {
            let before = self.processes.get(machine.name());
            ensure!(
                before == Some(&invocation(machine)?),
                "{} was restarted",
                machine.name()
            );
        }
        Ok(())
    }

    fn is_untouched(&self, rig: &Rig) -> Result<()> {
        self.same_processes(rig)?;
        for machine in rig.members() {
            let before = self.files.get(machine.name()).context("a listing")?;
            let after = listing(machine)?;
            ensure!(*before == after, "{}:\n{before}\n{after}", machine.name());
            machine.sh("test -s /var/lib/trueup/owner")?;
        }
        for (object, before) in &self.objects {
            let after = fixed(rig, object)?;
            ensure!(*before == after, "{object}: {before} {after}");
        }
        for request in audit::requests_since(rig, &self.mark)? {
            // The records, the Namespace that they are in, and the Secret that is new.
            let ours = request.uri.contains("trueup-system")
                || request.uri.starts_with("/api/v1/namespaces?")
                || request.uri.contains("/secrets/login");
            ensure!(!request.is_writing() || ours, "{request:?}");
        }
        Ok(())
    }
}

/// Everything below /etc and the program, with its times.
fn listing(machine: &Machine) -> Result<String> {
    machine.sh("find /etc /usr/local/bin -type f -printf '%p %s %m %T@\\n' | grep -v '/etc/rancher/node\\|/etc/.pwd\\|/etc/mtab' | sort")
}

/// An object without what its controllers write.
fn fixed(rig: &Rig, object: &str) -> Result<Value> {
    let mut live = rig.api()?.get(&["-n", "web", object])?;
    let object = live.as_object_mut().context("an object")?;
    object.remove("status");
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("resourceVersion");
        let managers = metadata.remove("managedFields");
        let ours = managers.is_some_and(|list| list.to_string().contains("\"trueup\""));
        metadata.insert("managedByTrueup".to_owned(), ours.into());
    }
    Ok(live)
}

/// Everything that waits for a word is adoption, and what is left is to be created.
fn take_over(rig: &Rig) -> Result<()> {
    let host = rig.host();
    let plan = host.trueup_ends("plan", 0)?.stdout;
    ensure!(plan.contains("adopt"), "{plan}");
    ensure!(plan.contains(", 0 restarts, "), "{plan}");
    for _ in 0..2 {
        let end = host.trueup_ends("plan -o json", 0)?;
        let plan: Value = serde_json::from_str(&end.stdout)?;
        for unit in plan["units"].as_array().context("units")? {
            for held in unit["left"].as_array().context("left")? {
                if held["hold"]["gate"] == "grant" {
                    let id = held["step"]["id"].as_str().context("an id")?;
                    host.trueup_ends(&format!("approve {id} --reason 'it is ours'"), 0)?;
                }
            }
        }
        host.trueup("apply --yes")?;
    }
    host.trueup_ends("apply --yes", 0)?;
    let plan = host.trueup_ends("plan --detailed-exitcode", 0)?.stdout;
    ensure!(plan.contains("no changes"), "{plan}");
    Ok(())
}

fn one_label(rig: &Rig, before: &Before) -> Result<()> {
    rig.repo.replace("m4.yaml", "z-m4", "attic")?;
    rig.repo.push("a label")?;
    rig.host().trueup_ends("apply --yes", 0)?;
    let node = rig.api()?.get(&["node", "m4"])?;
    ensure!(
        node["metadata"]["labels"]["example.org/zone"] == "attic",
        "{node}"
    );
    before.same_processes(rig)
}

/// What somebody else wrote otherwise is shown and stays.
fn other_content_is_left_alone(rig: &Rig) -> Result<()> {
    let host = rig.host();
    rig.machine("m5")
        .put_file("/etc/theirs.conf", 0o644, "theirs\n")?;
    let profile = rig.repo.read("base.yaml")?;
    let with = profile.replace(
        "  units:\n",
        "    - path: /etc/theirs.conf\n      content: |\n        ours\n  units:\n",
    );
    rig.repo.write("base.yaml", &with)?;
    rig.repo.push("a file that is there already")?;
    let end = host.trueup("apply --yes --wait-s 5")?;
    ensure!(end.code == Some(4), "{:?} {}", end.code, end.stdout);
    ensure!(end.stdout.contains("/etc/theirs.conf"), "{}", end.stdout);
    ensure!(rig.machine("m5").read_text("/etc/theirs.conf")? == "theirs\n");
    ensure!(rig.machine("m4").read_text("/etc/theirs.conf")? == "ours\n");
    rig.repo.write("base.yaml", &profile)?;
    for member in ["m1", "m2", "m3", "m4", MGMT] {
        rig.machine(member).sh("rm -f /etc/theirs.conf")?;
    }
    rig.repo.push("without it")?;
    eventually("the end of it", ROLL_OUT, || {
        let end = host.trueup("apply --yes --wait-s 5")?;
        Ok((end.code == Some(0)).then_some(()))
    })
}

/// The first change that needs a restart: the unit of the other installer stays.
fn an_option_restarts_one_by_one(rig: &Rig) -> Result<()> {
    let unit = rig
        .machine("m1")
        .read_text("/etc/systemd/system/k3s.service")?;
    rig.repo.replace(
        "edge.yaml",
        "        disable: [traefik]\n",
        "        disable: [traefik]\n        write-kubeconfig-mode: \"0640\"\n",
    )?;
    rig.repo.push("an option")?;
    rig.host().trueup_ends("apply --yes", 0)?;
    for server in rig.servers() {
        let mode = server.sh("stat -c %a /etc/rancher/k3s/k3s.yaml")?;
        ensure!(mode == "640\n", "{}: {mode}", server.name());
    }
    ensure!(
        rig.machine("m1")
            .read_text("/etc/systemd/system/k3s.service")?
            == unit
    );
    ensure!(rig.api()?.ready_nodes()? == rig.shape.members());
    let plan = rig
        .host()
        .trueup_ends("plan --detailed-exitcode", 0)?
        .stdout;
    ensure!(plan.contains("no changes"), "{plan}");
    Ok(())
}
