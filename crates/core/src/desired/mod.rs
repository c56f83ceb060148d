//! Desired: what the fleet is to be, by unit. Made of the checked configuration;
//! holds secret contents only as references and digests, and the rendered objects
//! of Applications in memory (so: no Debug of them, no serialisation).

mod resolve;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use trueup_model::facts::object::ObjectRef;
use trueup_model::id::{AppName, ClusterName, CommitId, Digest, FleetName, NodeName, UnitId};
use trueup_model::kinds::switches::Powers;
use trueup_model::kinds::{Role, RollOut, Taint, UnitState};
use trueup_model::origin::Origin;
use trueup_model::step::FileSpec;

pub use resolve::{Opened, Secrets, resolve};

/// A fleet as one commit wants it.
#[derive(Debug, Clone)]
pub struct Desired {
    /// The commit; absent for a work tree.
    pub commit: Option<CommitId>,
    /// The fleet.
    pub fleet: FleetName,
    /// Its units.
    pub units: BTreeMap<UnitId, DesiredUnit>,
}

/// One unit.
#[derive(Debug, Clone)]
pub struct DesiredUnit {
    /// Its id.
    pub id: UnitId,
    /// Its machines, by name.
    pub machines: BTreeMap<NodeName, DesiredMachine>,
    /// The cluster, if it is one.
    pub cluster: Option<DesiredCluster>,
    /// Applications on the cluster.
    pub apps: BTreeMap<AppName, DesiredApp>,
    /// Machines whose state is `removed`, and where that is written.
    pub removed: BTreeMap<NodeName, Origin>,
}

/// A machine.
#[derive(Debug, Clone)]
pub struct DesiredMachine {
    /// Its name.
    pub name: NodeName,
    /// Where its document begins.
    pub origin: Origin,
    /// Address in the network of the cluster.
    pub address: String,
    /// May be off.
    pub optional: bool,
    /// What the repo grants for it.
    pub powers: Powers,
    /// Files, unit files among them, by path.
    pub files: BTreeMap<String, (FileSpec, Origin)>,
    /// Kernel settings.
    pub sysctls: BTreeMap<String, (String, Origin)>,
    /// Units.
    pub units: BTreeMap<String, DesiredService>,
    /// k3s, if it is a member of a cluster.
    pub k3s: Option<DesiredK3s>,
    /// Labels of its Kubernetes Node.
    pub labels: BTreeMap<String, String>,
    /// Taints of its Kubernetes Node.
    pub taints: Vec<Taint>,
    /// Parts of its profiles that cannot be used, and why.
    pub broken: Vec<(Origin, String)>,
}

/// A systemd unit.
#[derive(Debug, Clone)]
pub struct DesiredService {
    /// Start at boot.
    pub enabled: Option<bool>,
    /// Runs or not.
    pub state: Option<UnitState>,
    /// Path of its file, where we write it.
    pub file: Option<String>,
    /// Where it is written.
    pub origin: Origin,
}

/// k3s on one machine.
#[derive(Debug, Clone)]
pub struct DesiredK3s {
    /// Its role.
    pub role: Role,
    /// Options, merged of cluster and machine.
    pub options: BTreeMap<String, serde_json::Value>,
}

/// A cluster.
#[derive(Debug, Clone)]
pub struct DesiredCluster {
    /// Its name.
    pub name: ClusterName,
    /// Where its document begins.
    pub origin: Origin,
    /// k3s release.
    pub version: String,
    /// Where the release is written.
    pub version_origin: Origin,
    /// The token file (content by reference, digest known), or why the secret
    /// cannot be had.
    pub token: Result<FileSpec, String>,
    /// How changes are carried through.
    pub roll_out: RollOut,
    /// What the repo grants.
    pub powers: Powers,
}

/// An Application.
#[derive(Clone)]
pub struct DesiredApp {
    /// Its name.
    pub name: AppName,
    /// Where its document begins.
    pub origin: Origin,
    /// Prune what is no longer declared.
    pub prune: bool,
    /// The Application is to go.
    pub removed: bool,
    /// What the repo grants.
    pub powers: Powers,
    /// Its objects.
    pub objects: BTreeMap<ObjectRef, DesiredObject>,
    /// Manifests that cannot be used, and why; nothing is pruned while there are any,
    /// since what they held is not known.
    pub broken: Vec<(Origin, String)>,
}

impl fmt::Debug for DesiredApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "DesiredApp({}, {} objects)",
            self.name,
            self.objects.len()
        )
    }
}

/// A rendered object.
#[derive(Clone)]
pub struct DesiredObject {
    /// Where it is written.
    pub origin: Origin,
    /// The object as it is sent, secrets in it.
    pub json: Arc<serde_json::Value>,
    /// Keyed digest of the rendered object.
    pub digest: Digest,
    /// Holds decrypted values: never shown.
    pub secret: bool,
}

impl fmt::Debug for DesiredObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DesiredObject({})", self.origin)
    }
}

impl DesiredUnit {
    /// Servers in the order of their names.
    pub fn servers(&self) -> impl Iterator<Item = &DesiredMachine> {
        self.with_role(Role::Server)
    }

    /// Agents in the order of their names.
    pub fn agents(&self) -> impl Iterator<Item = &DesiredMachine> {
        self.with_role(Role::Agent)
    }

    fn with_role(&self, role: Role) -> impl Iterator<Item = &DesiredMachine> {
        self.machines
            .values()
            .filter(move |machine| machine.k3s.as_ref().is_some_and(|k3s| k3s.role == role))
    }
}

/// Stage in which an object is applied: what others need comes first.
pub fn stage(object: &ObjectRef) -> u8 {
    match (object.group(), object.kind.as_str()) {
        ("", "Namespace") | ("apiextensions.k8s.io", "CustomResourceDefinition") => 0,
        _ => 1,
    }
}
