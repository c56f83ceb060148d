//! Steps: what is to be done, as data that exists before anything runs.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::facts::cluster::RawTaint;
use crate::facts::object::ObjectRef;
use crate::id::{AppName, ClusterName, Digest, NodeName, UnitId};
use crate::kinds::{SecretRef, Taint};
use crate::origin::Origin;

/// Content of a file that a step writes. Never serialised: a plan holds digests.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// Text of the config repo, or made of it.
    Text(String),
    /// One value of an encrypted file; resolved when the step is performed.
    Secret(SecretRef),
    /// The k3s binary of a release.
    K3sBinary(String),
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::Secret(secret) => write!(f, "Secret({}#{})", secret.secret, secret.key),
            Self::K3sBinary(version) => write!(f, "K3sBinary({version})"),
        }
    }
}

/// A file as it is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileSpec {
    /// Absolute path.
    pub path: String,
    /// Octal permission bits, four digits.
    pub mode: String,
    /// Owning user.
    pub owner: String,
    /// Owning group.
    pub group: String,
    /// SHA-256 of the content: never in an output, since a secret may be short.
    #[serde(skip)]
    pub sha256: Digest,
    /// The content.
    #[serde(skip)]
    pub content: Content,
}

impl FileSpec {
    /// True if the content is a secret.
    pub fn is_secret(&self) -> bool {
        matches!(self.content, Content::Secret(_))
    }
}

/// What a step acts on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// A machine.
    Machine(NodeName),
    /// A cluster as a whole.
    Cluster(ClusterName),
    /// The Kubernetes Node of a machine.
    Node(NodeName),
    /// An object of an Application.
    Object(AppName, ObjectRef),
}

impl Target {
    /// The machine, where the target is one.
    pub fn machine(&self) -> Option<&NodeName> {
        match self {
            Self::Machine(name) => Some(name),
            Self::Cluster(_) | Self::Node(_) | Self::Object(..) => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine(name) => write!(f, "{name}"),
            Self::Cluster(name) => write!(f, "{name}"),
            Self::Node(name) => write!(f, "node/{name}"),
            Self::Object(app, object) => write!(f, "{app}: {object}"),
        }
    }
}

/// What is done. An action holds everything that its performer needs: there is
/// nothing left to choose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "do")]
pub enum Action {
    /// Write the ownership record of a blank machine.
    ClaimMachine,
    /// Take a live machine over unchanged: record these files, which are equal
    /// already, and nothing else.
    AdoptMachine {
        /// Paths with equal content.
        equal: Vec<String>,
    },
    /// Record a file with equal content as owned.
    AdoptFile {
        /// The file.
        file: FileSpec,
    },
    /// Write a file.
    WriteFile {
        /// The file.
        file: FileSpec,
        /// Units to reload systemd for afterwards.
        reload: bool,
    },
    /// Remove a file that the ownership record names and nothing declares any more.
    RemoveFile {
        /// Its path.
        path: String,
    },
    /// Set kernel settings now.
    SetSysctls {
        /// Key and value.
        values: BTreeMap<String, String>,
    },
    /// Bring a unit into its declared state.
    SetUnit {
        /// Name with suffix.
        unit: String,
        /// Enable (true), disable (false), leave (none).
        enable: Option<bool>,
        /// Start (true), stop (false), leave (none).
        run: Option<bool>,
        /// Restart it, since its file changed.
        restart: bool,
    },
    /// Put the k3s binary on a machine where k3s does not run.
    InstallK3s {
        /// The binary.
        binary: FileSpec,
        /// Release.
        version: String,
    },
    /// Write k3s' inputs and start it for the first time: the cluster begins here,
    /// or this machine joins it.
    StartK3s {
        /// Unit name.
        unit: String,
        /// Files to write first.
        files: Vec<FileSpec>,
        /// Digest of all inputs of the process.
        inputs: Digest,
        /// The server to join, as a URL; `None`: begin a new cluster.
        join: Option<String>,
    },
    /// Write changed inputs of k3s and restart it.
    RestartK3s {
        /// Unit name.
        unit: String,
        /// Files to write first (those that differ).
        files: Vec<FileSpec>,
        /// Digest of all inputs of the process.
        inputs: Digest,
    },
    /// Write the ownership record of a cluster.
    ClaimCluster,
    /// Own exactly these labels on a Kubernetes Node.
    SetLabels {
        /// Label and value; keys that are gone from here are removed.
        labels: BTreeMap<String, String>,
        /// Some of them were last set by somebody else, and are taken back.
        force: bool,
    },
    /// Change taints of ours on a Kubernetes Node.
    SetTaints {
        /// The whole list as it was seen: the patch tests it.
        #[serde(skip)]
        before: Vec<RawTaint>,
        /// Ours, as they are to be.
        wanted: Vec<Taint>,
        /// `key:effect` of taints of ours that go.
        remove: Vec<String>,
    },
    /// Server-side apply of one object.
    ApplyObject {
        /// Take fields back that somebody else changed.
        force: bool,
        /// The object did not exist.
        create: bool,
        /// Fields that change, for people; no secret values.
        changes: Vec<String>,
    },
    /// Take an existing object over; the fields that would change are shown.
    AdoptObject {
        /// Fields that would change.
        changes: Vec<String>,
    },
    /// Delete an object that trueup created and that nothing declares any more.
    DeleteObject {
        /// Its UID.
        uid: String,
    },
}

impl Action {
    /// A word for tables and ids.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::ClaimMachine | Self::ClaimCluster => "claim",
            Self::AdoptMachine { .. } | Self::AdoptFile { .. } | Self::AdoptObject { .. } => {
                "adopt"
            }
            Self::WriteFile { .. } => "write",
            Self::RemoveFile { .. } => "remove",
            Self::SetSysctls { .. } => "sysctl",
            Self::SetUnit { .. } => "unit",
            Self::InstallK3s { .. } => "install",
            Self::StartK3s { .. } => "start",
            Self::RestartK3s { .. } => "restart",
            Self::SetLabels { .. } => "label",
            Self::SetTaints { .. } => "taint",
            Self::ApplyObject { create: true, .. } => "create",
            Self::ApplyObject { create: false, .. } => "change",
            Self::DeleteObject { .. } => "delete",
        }
    }

    /// What is acted on, beside the target: a path, a unit, a release.
    pub fn subject(&self) -> String {
        match self {
            Self::ClaimMachine | Self::ClaimCluster => "ownership record".to_owned(),
            Self::AdoptMachine { equal } => format!("machine ({} equal files)", equal.len()),
            Self::AdoptFile { file } | Self::WriteFile { file, .. } => file.path.clone(),
            Self::RemoveFile { path } => path.clone(),
            Self::SetSysctls { values } => {
                let list: Vec<String> = values.iter().map(|(k, v)| format!("{k}={v}")).collect();
                list.join(" ")
            }
            Self::SetUnit {
                unit,
                enable,
                run,
                restart,
            } => {
                let mut words = vec![unit.clone()];
                words.extend(enable.map(|on| if on { "enable" } else { "disable" }.to_owned()));
                words.extend(run.map(|on| if on { "start" } else { "stop" }.to_owned()));
                words.extend(restart.then(|| "restart".to_owned()));
                words.join(" ")
            }
            Self::InstallK3s { version, .. } => format!("k3s {version}"),
            Self::StartK3s { unit, join, .. } => match join {
                Some(url) => format!("{unit} joining {url}"),
                None => format!("{unit} as the first server"),
            },
            Self::RestartK3s { unit, files, .. } => {
                if files.is_empty() {
                    unit.clone()
                } else {
                    let names: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
                    format!("{unit} with {}", names.join(", "))
                }
            }
            Self::SetLabels { labels, .. } => {
                let list: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
                list.join(" ")
            }
            Self::SetTaints { wanted, remove, .. } => {
                let mut list: Vec<String> = wanted
                    .iter()
                    .map(|taint| format!("{}={}:{}", taint.key, taint.value, taint.effect.as_str()))
                    .collect();
                list.extend(remove.iter().map(|name| format!("-{name}")));
                list.join(" ")
            }
            Self::ApplyObject { changes, .. } | Self::AdoptObject { changes } => changes.join(", "),
            Self::DeleteObject { .. } => String::new(),
        }
    }
}

/// How disruptive a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Disruption {
    /// Nothing stops.
    None,
    /// A service or k3s process restarts.
    Restart,
    /// Pods are moved away first.
    Drain,
    /// Something is deleted.
    Destructive,
}

impl Disruption {
    /// The word in outputs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Restart => "restart",
            Self::Drain => "drain",
            Self::Destructive => "destructive",
        }
    }
}

/// Why there is anything to do: it decides which switch must be on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Cause {
    /// A commit asks for it (`rollOut`).
    Commit,
    /// The world moved away from what trueup had made (`correctDrift`).
    Drift,
    /// A step before this one made it needed (a restart for a changed file).
    Follow,
}

/// A reason, with its place in the config repo where it has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Why {
    /// Where it is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Origin>,
    /// What was observed, and what is wanted; no secret values.
    pub text: String,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Digest of unit, action, target and desired state. Equal steps of two plans
    /// have equal ids.
    pub id: Digest,
    /// Its unit.
    pub unit: UnitId,
    /// What it acts on.
    pub target: Target,
    /// What is done.
    pub action: Action,
    /// Why.
    pub why: Why,
    /// How disruptive it is.
    pub class: Disruption,
    /// Which switch it needs.
    pub cause: Cause,
    /// It needs a grant that names it; `--yes` never covers it.
    pub confirm: bool,
}

impl Step {
    /// A step; the id is computed here and nowhere else. `desired` is what is to
    /// be true afterwards, as text.
    pub fn new(
        unit: &UnitId,
        target: Target,
        action: Action,
        desired: &str,
        class: Disruption,
        cause: Cause,
        why: Why,
    ) -> Self {
        let id = Digest::of_parts([
            unit.to_string().as_bytes(),
            action.verb().as_bytes(),
            target.to_string().as_bytes(),
            desired.as_bytes(),
        ]);
        Self {
            id,
            unit: unit.clone(),
            target,
            action,
            why,
            class,
            cause,
            confirm: false,
        }
    }

    /// The same step, needing a grant.
    #[must_use]
    pub fn confirmed(mut self) -> Self {
        self.confirm = true;
        self
    }
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// It is done.
    Done,
    /// It failed and had no effect, or one that is seen when we look again.
    Failed(String),
    /// Nobody knows: look again, then decide.
    Unknown(String),
    /// The target refuses us: another holder, or a higher epoch.
    Fenced(String),
}
