//! Facts of one machine, read by one script in one round trip.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{Claim, Digest};

/// What is asked of a machine in one observation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProbeRequest {
    /// Files to look at: absolute path, and whether the content is wanted too
    /// (only for what is not secret; at most [`CONTENT_BYTES_MAX`] come back).
    pub files: BTreeMap<String, bool>,
    /// Kernel settings.
    pub sysctls: Vec<String>,
    /// systemd units.
    pub units: Vec<String>,
    /// Paths whose file system's free space is wanted.
    pub free: Vec<String>,
}

/// Most bytes of a file's content in an observation: enough for any configuration
/// file, small enough for a fleet in memory.
pub const CONTENT_BYTES_MAX: usize = 64 * 1024;

/// The reply of the probe script, before it is understood: ordered pairs of key
/// and bytes. `core::observed` makes [`MachineFacts`] of it. Keys:
///
/// - `script` version; `boot` boot_id and PID 1's start time in ticks; `machine-id`;
///   `hostname`; `os` (ID and VERSION_ID); `init` (comm of PID 1); `now` seconds.
/// - `owner` lines of the ownership record (absent if there is none).
/// - `file <path>`: `absent` | `other <type>` | `file <sha256> <mode> <owner> <group> <size> <mtime-s>`;
///   `content <path>`: bytes.
/// - `sysctl <key>`: value (missing key: no line).
/// - `unit <name>`: `Property=Value` lines of `systemctl show`.
/// - `k3s-binary`: `<sha256> <first line of k3s --version>`; `k3s-datastore`: `etcd`|`sqlite`|`none`;
///   `dropin <path>`: bytes of each `/etc/rancher/k3s/config.yaml.d/*.yaml|yml`.
/// - `k3s-started <unit>` of a unit that runs: lines `arg<TAB>word` (of its ExecStart, after
///   the sub-command) and `env<TAB>name<TAB>value` (K3S_ variables of its process); secret
///   values as `sha256:<digest>`.
/// - `free <path>`: bytes available.
/// - `job <id>`: `running` | `ended <code>` | `unknown`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProbeReply {
    /// Keys and values, in the order of the script's output.
    pub lines: Vec<(String, Vec<u8>)>,
}

/// Facts of one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineFacts {
    /// boot_id and PID 1's start time: differs after every reboot, in a container too.
    pub boot: String,
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// Host name.
    pub hostname: String,
    /// `ID VERSION_ID` of os-release.
    pub os: String,
    /// The machine's clock, seconds since 1970.
    pub now_s: i64,
    /// The ownership record.
    pub owner: Option<OwnerRecord>,
    /// By path; a path that was asked for and is missing here was not readable.
    pub files: BTreeMap<String, FileFact>,
    /// By key; a missing key does not exist on this kernel.
    pub sysctls: BTreeMap<String, String>,
    /// By name.
    pub units: BTreeMap<String, UnitFact>,
    /// k3s on this machine.
    pub k3s: K3sFact,
    /// Free bytes by path.
    pub free_bytes: BTreeMap<String, u64>,
    /// Jobs that are running now.
    pub running_jobs: Vec<String>,
}

/// The small root-only record by which trueup knows what it owns on a machine:
/// `/var/lib/trueup/owner`, lines of `word<TAB>…`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnerRecord {
    /// Who holds the machine.
    pub claim: Option<Claim>,
    /// Files that trueup wrote or adopted: path and the digest then.
    pub files: BTreeMap<String, Digest>,
    /// Those of them that stood there before us: never removed without a grant.
    pub adopted: BTreeSet<String>,
    /// What units' processes started with: unit → (invocation id, digest of inputs).
    pub runs: BTreeMap<String, (String, Digest)>,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileFact {
    /// Nothing is there.
    Absent,
    /// Something that is no regular file: its type in a word.
    Other(String),
    /// A regular file.
    Present {
        /// SHA-256 of the content.
        sha256: Digest,
        /// Octal permission bits, four digits.
        mode: String,
        /// Owning user.
        owner: String,
        /// Owning group.
        group: String,
        /// Size in bytes.
        size: u64,
        /// Modification time, seconds since 1970.
        mtime_s: i64,
        /// Content, where it was asked for and is small.
        content: Option<Vec<u8>>,
    },
}

/// A systemd unit (`systemctl show`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitFact {
    /// `LoadState`: loaded, not-found, masked …
    pub load: String,
    /// `ActiveState`: active, inactive, activating, failed …
    pub active: String,
    /// `SubState`.
    pub sub: String,
    /// `UnitFileState`: enabled, disabled, static …
    pub file: String,
    /// `Result`: success, exit-code, protocol …
    pub result: String,
    /// `Type`: a oneshot that ended well counts as started, unless it was to remain.
    pub kind: String,
    /// `RemainAfterExit`: a oneshot that is inactive was stopped.
    pub remains: bool,
    /// `InvocationID` of the current or last run.
    pub invocation: String,
    /// `ExecMainStartTimestamp` in seconds since 1970; 0 if it never ran.
    pub started_s: i64,
    /// `NRestarts` since it was last started by hand.
    pub restarts: u32,
    /// `NeedDaemonReload`.
    pub needs_reload: bool,
    /// `FragmentPath`.
    pub path: String,
}

/// k3s on a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct K3sFact {
    /// Digest and version of `/usr/local/bin/k3s`.
    pub binary: Option<K3sBinary>,
    /// What lies in the server's data directory.
    pub datastore: Datastore,
    /// `config.yaml.d/*.yaml|yml` by path, in k3s' order.
    pub dropins: BTreeMap<String, Vec<u8>>,
    /// What a running k3s was given beside its files, by unit.
    pub started: BTreeMap<String, Started>,
}

/// Arguments and environment of a running k3s. Secret values are `sha256:<digest>`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Started {
    /// Words of the command line after `k3s server` or `k3s agent`.
    pub arguments: Vec<String>,
    /// `K3S_` variables.
    pub environment: BTreeMap<String, String>,
}

/// The k3s binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct K3sBinary {
    /// SHA-256 of the file.
    pub sha256: Digest,
    /// Third word of the first line of `k3s --version`; empty if it did not answer.
    pub version: String,
}

/// What a server's data directory holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Datastore {
    /// Nothing: this machine never was a server, or was wiped.
    #[default]
    None,
    /// An etcd member.
    Etcd,
    /// kine's SQLite.
    Sqlite,
}
