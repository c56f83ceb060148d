//! NodeProfile: what many machines share.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::secret::SecretRef;

/// Spec of a NodeProfile. A thing named here is owned whole by trueup once it has
/// been written or adopted; everything else on the machine is left alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeProfile {
    /// Files, by absolute path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileEntry>,
    /// Kernel settings below `net.`, by their dotted name; kept over reboots in
    /// `/etc/sysctl.d/60-trueup.conf`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// systemd units.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<UnitEntry>,
    /// Labels of the Kubernetes Node.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// One file. Exactly one of `content` and `contentFrom`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileEntry {
    /// Absolute path, without `.` and `..`.
    #[schemars(regex(pattern = r"^/[^\x00]*[^/\x00]$"))]
    pub path: String,
    /// The whole content, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The whole content, from an encrypted file. The mode is then 0600 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_from: Option<SecretRef>,
    /// Permission bits in octal, as text. Default: `"0644"`, or `"0600"` with `contentFrom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-7]{3,4}$"))]
    pub mode: Option<String>,
    /// Owner. Default: root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z_][a-z0-9_-]{0,31}$"))]
    pub owner: Option<String>,
    /// Group. Default: root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z_][a-z0-9_-]{0,31}$"))]
    pub group: Option<String>,
}

/// One systemd unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UnitEntry {
    /// Name with its suffix (`kmsg.service`).
    #[schemars(regex(pattern = r"^[A-Za-z0-9:_.@-]+\.(service|timer|socket|path|mount|target)$"))]
    pub name: String,
    /// The unit file, as text, written to `/etc/systemd/system`. Without it the
    /// unit is one that the machine already has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Start it at boot. Default: left as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Whether it runs. Default: left as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<UnitState>,
}

/// Whether a unit runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum UnitState {
    /// Active; a oneshot unit that ended well counts.
    Started,
    /// Not active.
    Stopped,
}
