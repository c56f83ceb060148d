//! The config repo of every story: a cluster with an application, two secrets, a
//! profile for all machines, and the management machine beside it.

use anyhow::Result;
use trueup_bed::Machine;

use super::{MGMT, Rig, VERSION};

/// Where the API server of every server writes its audit log.
pub(crate) const AUDIT_LOG: &str = "/var/log/kube-audit.log";
/// A folder of files that the profile declares.
pub(crate) const FOLDER: &str = "/etc/trueup-demo";

const FLEET: &str = "apiVersion: trueup.dev/v1alpha1
kind: Fleet
metadata: {name: home}
spec:
  switches: {reportDrift: true, correctDrift: true, rollOut: true}
  defaults:
    profiles: [base]
";

const PROFILE: &str = "apiVersion: trueup.dev/v1alpha1
kind: NodeProfile
metadata: {name: base}
spec:
  files:
    - path: /etc/trueup-demo/motd
      content: |
        kept true by trueup
    - path: /etc/trueup-demo/licence
      contentFrom: {secret: secrets/machines, key: licence}
    - path: /etc/trueup-demo/audit-policy.yaml
      content: |
        apiVersion: audit.k8s.io/v1
        kind: Policy
        omitStages: [RequestReceived]
        rules:
          - level: Metadata
  sysctls:
    net.core.somaxconn: \"1024\"
  units:
    - name: hello.service
      enabled: true
      state: started
      content: |
        [Unit]
        Description=hello
        [Service]
        Type=oneshot
        RemainAfterExit=yes
        ExecStart=/bin/true
        [Install]
        WantedBy=multi-user.target
";

const CLUSTER: &str = "apiVersion: trueup.dev/v1alpha1
kind: Cluster
metadata: {name: edge}
spec:
  k3s:
    version: VERSION
    tokenFrom: {secret: secrets/edge, key: token}
    server:
      options:
        kube-apiserver-arg:
          - audit-log-path=AUDIT_LOG
          - audit-policy-file=/etc/trueup-demo/audit-policy.yaml
";

const APPLICATION: &str = "apiVersion: trueup.dev/v1alpha1
kind: Application
metadata: {name: web}
spec:
  cluster: edge
  namespace: web
  source: {path: apps/web}
";

const MANIFESTS: &str = "apiVersion: v1
kind: Namespace
metadata: {name: web}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: page}
data: {index.html: hello}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
        - name: web
          image: example.org/web:1
          resources: {requests: {cpu: 100m}}
";

/// Writes the documents into the work tree.
pub(crate) fn write(rig: &Rig) -> Result<()> {
    let (repo, keys) = (&rig.repo, &rig.keys);
    repo.write("fleet.yaml", FLEET)?;
    repo.write("base.yaml", PROFILE)?;
    let cluster = CLUSTER
        .replace("VERSION", VERSION)
        .replace("AUDIT_LOG", AUDIT_LOG);
    repo.write("edge.yaml", &cluster)?;
    repo.write("web.yaml", APPLICATION)?;
    repo.write("apps/web/web.yaml", MANIFESTS)?;
    let token = keys.encrypt(&format!("token: {}\n", keys.token))?;
    repo.write("secrets/edge.enc.yaml", &token)?;
    let machines = keys.encrypt(&format!("licence: {}\n", keys.licence))?;
    repo.write("secrets/machines.enc.yaml", &machines)?;
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: login\nstringData:\n  password: {}\n",
        keys.password
    );
    repo.write("apps/web/login.enc.yaml", &keys.encrypt(&secret)?)?;
    for (index, name) in rig.shape.members().iter().enumerate() {
        let role = if index < rig.shape.servers {
            "server"
        } else {
            "agent"
        };
        repo.write(&format!("{name}.yaml"), &member(rig, name, role))?;
    }
    let mgmt = format!(
        "apiVersion: trueup.dev/v1alpha1\nkind: Node\nmetadata: {{name: {MGMT}}}\nspec:\n  connection:\n    local: {{}}\n"
    );
    repo.write(&format!("{MGMT}.yaml"), &mgmt)
}

/// The Node document of a member.
fn member(rig: &Rig, name: &str, role: &str) -> String {
    let machine = rig.machine(name);
    format!(
        "apiVersion: trueup.dev/v1alpha1
kind: Node
metadata: {{name: {name}}}
spec:
  cluster: edge
  role: {role}
  labels: {{example.org/zone: z-{name}}}
  connection:
    ssh:
      address: {}
      hostKeys: [\"{}\"]
",
        machine.ip(),
        key_of(machine)
    )
}

/// A machine's host key without its comment.
pub(crate) fn key_of(machine: &Machine) -> String {
    let words = machine.host_key_openssh().split_whitespace();
    words.take(2).collect::<Vec<_>>().join(" ")
}
