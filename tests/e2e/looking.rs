//! A plan changes nothing: neither on the API, nor on a machine, nor in the repo.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use trueup_bed::TreeDigest;
use trueup_bed::digest::RESTLESS;

use crate::rig::{MGMT, Rig, STATE, audit};

/// What the members write by themselves while they serve.
const SERVING: [&str; 3] = [
    "/var/lib/rancher",
    // The Nodes' credentials are renewed at each start of k3s only, but the folder is k3s'.
    "/etc/rancher/node",
    "/root",
];

/// Plans the pushed commit, which is not rolled out yet and has steps of many kinds.
pub(crate) fn a_plan_changes_nothing(rig: &Rig) -> Result<()> {
    let before = (trees(rig)?, refs(rig)?);
    let mark = audit::mark(rig);
    let plan = rig.host().trueup_ends("plan --detailed-exitcode", 2)?;
    ensure!(plan.stdout.contains("label"), "{}", plan.stdout);
    let after = (trees(rig)?, refs(rig)?);
    for (name, tree) in &before.0 {
        let changes = after.0.get(name).map(|later| tree.changes_to(later));
        ensure!(
            changes.as_ref().is_some_and(Vec::is_empty),
            "{name}: {changes:?}"
        );
    }
    ensure!(before.1 == after.1, "{} is not {}", after.1, before.1);

    let requests = audit::requests_since(rig, &mark)?;
    let writing: Vec<_> = requests
        .iter()
        .filter(|request| request.is_writing())
        .collect();
    ensure!(writing.is_empty(), "a plan wrote: {writing:#?}");
    ensure!(
        requests.iter().any(audit::Request::is_dry_run),
        "a change of an object is asked of the server: {requests:#?}"
    );
    Ok(())
}

/// The same commit with a kubeconfig that may only read: what a commit would change is compared here, and
/// marked so; the API server refuses even the question.
pub(crate) fn a_plan_with_a_credential_that_may_only_read(rig: &Rig) -> Result<()> {
    let api = rig.api()?;
    api.kubectl(&["-n", "kube-system", "create", "serviceaccount", "reader"])?;
    api.kubectl(&[
        "create",
        "clusterrole",
        "reader",
        "--verb=get,list,watch",
        "--resource=*.*",
    ])?;
    api.kubectl(&[
        "create",
        "clusterrolebinding",
        "reader",
        "--clusterrole=reader",
        "--serviceaccount=kube-system:reader",
    ])?;
    let token = api.kubectl(&["-n", "kube-system", "create", "token", "reader"])?;
    let authority = "jsonpath={.clusters[0].cluster.certificate-authority-data}";
    let authority = api.kubectl(&["config", "view", "--raw", "-o", authority])?;
    let server = api.servers.first().context("a server")?;
    let kubeconfig = format!(
        "apiVersion: v1
kind: Config
current-context: reader
contexts: [{{name: reader, context: {{cluster: edge, user: reader}}}}]
clusters: [{{name: edge, cluster: {{server: \"{server}\", certificate-authority-data: {authority}}}}}]
users: [{{name: reader, user: {{token: {}}}}}]
",
        token.trim()
    );
    let path = "/etc/trueup/reader.yaml";
    rig.machine(MGMT).put_file(path, 0o600, kubeconfig)?;
    let host = rig.host();
    host.configure("", &format!("clusters: {{edge: {{kubeconfig: {path}}}}}\n"))?;
    let mark = audit::mark(rig);
    let plan = host.trueup_ends("plan --detailed-exitcode", 2)?.stdout;
    let line = plan
        .lines()
        .find(|line| line.contains("ConfigMap/web/page"));
    let line = line.with_context(|| plan.clone())?;
    ensure!(line.contains("not confirmed by the server"), "{plan}");
    let requests = audit::requests_since(rig, &mark)?;
    ensure!(
        !requests.iter().any(audit::Request::is_writing),
        "{requests:#?}"
    );
    host.configure("", "")
}

/// What is on the disks, less logs, what a running machine writes by itself, and
/// trueup's own state.
fn trees(rig: &Rig) -> Result<BTreeMap<String, TreeDigest>> {
    let mut exclude = RESTLESS.to_vec();
    exclude.extend(SERVING);
    exclude.push(STATE);
    let mut trees = BTreeMap::new();
    for machine in rig.members().into_iter().chain([rig.machine(MGMT)]) {
        trees.insert(machine.name().to_owned(), machine.tree_digest(&exclude)?);
    }
    Ok(trees)
}

/// Every ref of the repository that people push to.
fn refs(rig: &Rig) -> Result<String> {
    rig.machine(MGMT)
        .sh("git --git-dir=/srv/fleet.git for-each-ref")
}
