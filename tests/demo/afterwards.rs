//! Commits that the script never saw, by other processes.

use crate::left::{Left, demo};

/// A commit: its name, the change, and what its plan must say.
type Case = (&'static str, fn(&Left), &'static [&'static str]);

const NODE: &str = "apiVersion: trueup.dev/v1alpha1
kind: Node
metadata:
  name: k3sw3
spec:
  cluster: edge
  role: agent
  connection:
    ssh:
      address: 192.0.2.23
      hostKeys:
        - ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJshhKsC6My2JS2jeFwPzj5xLKhKKoKYh7q4GbniqIWz
";

const CASES: &[Case] = &[
    (
        "a label",
        |left| left.replace("nodes/k3sw1.yaml", "zone: pve1", "zone: pve3"),
        &[
            "label topology.kubernetes.io/zone=pve3",
            "1 steps in 1 waves",
        ],
    ),
    (
        "a label less",
        |left| {
            let text = left.read("nodes/k3sw2.yaml");
            left.write("nodes/k3sw2.yaml", text.split("  labels:").next().unwrap());
        },
        &["is ours and no longer declared", "1 steps in 1 waves"],
    ),
    (
        "a taint",
        |left| {
            let text = left.read("nodes/k3sw2.yaml");
            let taint =
                "  taints:\n    - {key: example.org/gpu, value: \"yes\", effect: NoSchedule}\n";
            left.write("nodes/k3sw2.yaml", &(text + taint));
        },
        &["taint example.org/gpu=yes:NoSchedule  node/k3sw2"],
    ),
    (
        "replicas and a variable",
        |left| {
            left.replace("apps/hello/web.yaml", "replicas: 2", "replicas: 3");
            let more = "key: password\n            - {name: X, value: \"1\"}";
            left.replace("apps/hello/web.yaml", "key: password", more);
        },
        &[
            "spec.replicas: 2 (applied: 3)",
            "[name=X]",
            "1 steps in 1 waves",
        ],
    ),
    (
        "a file and a setting of a profile",
        |left| {
            left.replace("profiles/base.yaml", "described in Git", "told by Git");
            left.replace("profiles/base.yaml", "\"4096\"", "\"8192\"");
        },
        &[
            "write /etc/motd",
            "net.core.somaxconn is 4096, not 8192",
            "15 steps",
        ],
    ),
    (
        "an option of k3s, server by server",
        |left| left.replace("cluster.yaml", "- edge.example.org", "- api.example.org"),
        &[
            "restart k3s.service with /etc/rancher/k3s/config.yaml",
            "3 restarts",
        ],
    ),
    (
        "a release",
        |left| left.replace("cluster.yaml", "v1.36.4+k3s1", "v1.36.5+k3s1"),
        &["it is v1.36.4+k3s1 with another digest", "5 restarts"],
    ),
    (
        "an object less",
        |left| {
            let text = left.read("apps/hello/web.yaml");
            let parts: Vec<&str> = text.split("---\n").take(2).collect();
            left.write("apps/hello/web.yaml", &parts.join("---\n"));
        },
        &["delete hello: PodDisruptionBudget/hello/web", "1 delete"],
    ),
    (
        "a machine more",
        |left| left.write("nodes/k3sw3.yaml", NODE),
        &["start k3s-agent.service joining  k3sw3"],
    ),
];

#[test]
fn commits_that_the_script_never_saw() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(demo(dir.path(), &["--fast"]).status.code(), Some(0));
    let left = Left::of(dir.path());
    for (name, change, wanted) in CASES {
        change(&left);
        left.commit(name);
        let plan = left.trueup(&["plan", "--detailed-exitcode"]);
        assert_eq!(plan.code, Some(2), "{name}: {}", plan.text);
        for part in *wanted {
            assert!(
                plan.text.contains(part),
                "{name}: no {part:?} in {}",
                plan.text
            );
        }
        let apply = left.trueup(&["apply", "--yes", "--wait-s", "30"]);
        assert_eq!(apply.code, Some(0), "{name}: {}", apply.text);
        left.is_true();
    }
    let status = left.trueup(&["status"]);
    assert_eq!(status.code, Some(0), "{}", status.text);
    assert!(status.text.contains("cluster/edge"), "{}", status.text);
}
