//! The host configuration: what grants power. Read once at the start; a config repo
//! can never say any of this.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;
use trueup_model::kinds::Switches;

/// Where it lies, unless `--config` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/trueup/trueup.yaml";
/// A host configuration is a page of text.
const BYTES_MAX: u64 = 1024 * 1024;

/// The host configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// The config repo.
    pub repo: Repo,
    /// Which Fleet of it is served.
    pub fleet: String,
    /// Name under which targets know this host. Default: the machine-id.
    #[serde(default)]
    pub holder: Option<String>,
    /// Where history, outbox, mirror and lock lie.
    #[serde(default = "state_dir")]
    pub state_dir: Utf8PathBuf,
    /// age identities.
    #[serde(default)]
    pub age: Age,
    /// SSH identities by name.
    #[serde(default)]
    pub ssh: Ssh,
    /// Where anything may be sent.
    #[serde(default)]
    pub allow: Allow,
    /// k3s releases.
    #[serde(default)]
    pub k3s: K3s,
    /// Ceilings for every target. Default: report only.
    #[serde(default)]
    pub switches: Switches,
    /// Ceilings per unit (`cluster/edge`, `machine/lab`), where they differ.
    #[serde(default)]
    pub targets: BTreeMap<String, Target>,
    /// Clusters that trueup did not make: how they are reached.
    #[serde(default)]
    pub clusters: BTreeMap<String, ClusterAccess>,
    /// Where verdicts go beside the notes.
    #[serde(default)]
    pub forge: Forge,
    /// Where a forge may wake the loop. Default: nowhere, the branch is polled.
    #[serde(default)]
    pub webhook: Option<Webhook>,
    /// What is planned beside the tracked branch.
    #[serde(default)]
    pub plan: Plan,
    /// Deadlines of commits.
    #[serde(default)]
    pub apply: Apply,
    /// File of a simulated fleet that stands in the place of every machine, cluster and
    /// release: nothing real is reached. An absolute path.
    #[serde(default)]
    pub simulated: Option<Utf8PathBuf>,
    /// Group that may use the socket (0660). Default: root alone.
    #[serde(default)]
    pub socket_group: Option<String>,
}

/// The config repo.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Repo {
    /// URL or path, as `git fetch` takes it.
    pub url: String,
    /// The tracked branch.
    #[serde(default = "main")]
    pub branch: String,
    /// Seconds between two looks at a remote repository.
    #[serde(default = "poll_s")]
    pub interval_s: u64,
}

/// age identities.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Age {
    /// File with identities; refused when others can read it.
    #[serde(default)]
    pub identity_file: Option<Utf8PathBuf>,
}

/// SSH identities.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ssh {
    /// Private key files by the name that Node documents use.
    #[serde(default)]
    pub identities: BTreeMap<String, Utf8PathBuf>,
}

/// Where anything may be sent.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Allow {
    /// Networks (`192.0.2.0/24`), addresses or names. Empty: nothing but `local`.
    #[serde(default)]
    pub addresses: Vec<String>,
}

/// k3s releases.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct K3s {
    /// Base URL: below it lie `<version>/k3s` and `<version>/sha256sum-amd64.txt`.
    #[serde(default = "releases")]
    pub releases: String,
}

impl Default for K3s {
    fn default() -> Self {
        Self {
            releases: releases(),
        }
    }
}

/// A ceiling of one unit.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Target {
    /// Its switches.
    #[serde(default)]
    pub switches: Switches,
}

/// How a cluster is reached that trueup did not make.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterAccess {
    /// A kubeconfig with a token or client certificate; exec and auth-provider
    /// entries are refused.
    pub kubeconfig: Utf8PathBuf,
}

/// Where verdicts go.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Forge {
    /// Git notes in trueup's own mirror: always written.
    #[serde(default)]
    pub notes: Notes,
    /// Where a status on a forge leads to; `{commit}` stands for the commit.
    #[serde(default)]
    pub link: Option<String>,
    /// Commit statuses on a Gitea or Forgejo.
    #[serde(default)]
    pub gitea: Option<Gitea>,
    /// Commit statuses on GitHub.
    #[serde(default)]
    pub github: Option<GitHub>,
}

/// A Gitea or Forgejo.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gitea {
    /// Of its start page.
    pub url: String,
    /// `OWNER/NAME` of the config repo there.
    pub repo: String,
    /// File with a token; refused when others can read it. Read again at every
    /// request, so that a new token needs no restart.
    pub token_file: Utf8PathBuf,
    /// Authorities (PEM) that are trusted in the place of the system's.
    #[serde(default)]
    pub ca_file: Option<Utf8PathBuf>,
}

/// GitHub or a GitHub Enterprise.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GitHub {
    /// Of the API.
    #[serde(default = "github_api")]
    pub api: String,
    /// `OWNER/NAME` of the config repo there.
    pub repo: String,
    /// File with a token; refused when others can read it. Read again at every
    /// request, so that a new token needs no restart.
    pub token_file: Utf8PathBuf,
    /// Authorities (PEM) that are trusted in the place of the system's.
    #[serde(default)]
    pub ca_file: Option<Utf8PathBuf>,
}

/// Where a forge may say that something was pushed.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Webhook {
    /// `ADDRESS:PORT`. Plain HTTP: bodies are signed, not secret, and none is used.
    pub listen: std::net::SocketAddr,
    /// File with the secret; refused when others can read it.
    pub secret_file: Utf8PathBuf,
    /// The path of its URL.
    #[serde(default = "webhook_path")]
    pub path: String,
}

/// What is planned beside the tracked branch.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plan {
    /// Branches of the same repository; one `*` in each stands for any text, slashes
    /// too. Their tips get a plan and nothing else.
    #[serde(default)]
    pub branches: Vec<String>,
}

/// Git notes.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Notes {
    /// Push them to the origin too, to a ref of this holder's own.
    #[serde(default)]
    pub push: bool,
}

/// Deadlines of commits.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Apply {
    /// Seconds after which a commit that is not true yet is a failure.
    #[serde(default = "deadline_s")]
    pub deadline_s: i64,
}

impl Default for Apply {
    fn default() -> Self {
        Self {
            deadline_s: deadline_s(),
        }
    }
}

fn state_dir() -> Utf8PathBuf {
    "/var/lib/trueup/host".into()
}
fn main() -> String {
    "main".to_owned()
}
fn poll_s() -> u64 {
    60
}
fn releases() -> String {
    "https://github.com/k3s-io/k3s/releases/download".to_owned()
}
fn github_api() -> String {
    "https://api.github.com".to_owned()
}
fn webhook_path() -> String {
    "/webhook".to_owned()
}
fn deadline_s() -> i64 {
    30 * 60
}

/// Why the host configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// It cannot be read.
    #[error("cannot read the host configuration {path}: {why}")]
    Read {
        /// The file.
        path: Utf8PathBuf,
        /// What happened.
        why: String,
    },
    /// It is not what it should be; the message has line and column.
    #[error("{path}: {why}")]
    Invalid {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl Settings {
    /// Read the host configuration.
    pub fn read(path: &Utf8Path) -> Result<Self, SettingsError> {
        let read = |why: std::io::Error| SettingsError::Read {
            path: path.to_owned(),
            why: why.to_string(),
        };
        let size = std::fs::metadata(path).map_err(read)?.len();
        if size > BYTES_MAX {
            return Err(SettingsError::Invalid {
                path: path.to_owned(),
                why: format!("it has {size} bytes, the limit is {BYTES_MAX}"),
            });
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        Self::parse(path, &text)
    }

    /// Understand its text.
    pub fn parse(path: &Utf8Path, text: &str) -> Result<Self, SettingsError> {
        let invalid = |why: String| SettingsError::Invalid {
            path: path.to_owned(),
            why,
        };
        let settings: Self =
            serde_saphyr::from_str(text).map_err(|error| invalid(error.to_string()))?;
        for unit in settings.targets.keys() {
            unit.parse::<trueup_model::id::UnitId>()
                .map_err(|error| invalid(format!("targets: {error}")))?;
        }
        if let Some(path) = &settings.simulated
            && !path.is_absolute()
        {
            return Err(invalid(format!(
                "simulated: {path} is not an absolute path"
            )));
        }
        Ok(settings)
    }

    /// The name under which targets know this host.
    pub fn holder(&self) -> Result<String, SettingsError> {
        if let Some(holder) = &self.holder {
            return Ok(holder.clone());
        }
        std::fs::read_to_string("/etc/machine-id")
            .map(|text| text.trim().to_owned())
            .map_err(|why| SettingsError::Read {
                path: "/etc/machine-id".into(),
                why: format!("{why}; set holder in the host configuration"),
            })
    }

    /// The ceiling of a unit.
    pub fn ceiling(
        &self,
        unit: &trueup_model::id::UnitId,
    ) -> trueup_model::kinds::switches::Powers {
        self.targets
            .get(&unit.to_string())
            .map(|target| target.switches)
            .unwrap_or_default()
            .or(self.switches)
            .resolve()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, SettingsError> {
        Settings::parse(Utf8Path::new("trueup.yaml"), text)
    }

    #[test]
    fn the_shortest_one_reports_only() {
        let settings = parse("repo: {url: /srv/fleet.git}\nfleet: home\n").unwrap();
        let powers = settings.ceiling(&"cluster/edge".parse().unwrap());
        assert!(powers.report_drift && !powers.correct_drift && !powers.roll_out);
    }

    #[test]
    fn a_ceiling_of_a_unit_goes_before_the_general_one() {
        let settings = parse(
            "repo: {url: u}\nfleet: home\nswitches: {rollOut: true, correctDrift: true}\ntargets:\n  cluster/edge: {switches: {correctDrift: false}}\n",
        )
        .unwrap();
        let edge = settings.ceiling(&"cluster/edge".parse().unwrap());
        assert!(edge.roll_out && !edge.correct_drift);
        assert!(
            settings
                .ceiling(&"machine/lab".parse().unwrap())
                .correct_drift
        );
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (text, part) in [
            ("repo: {url: u}\nfleet: home\nswiches: {}\n", "swiches"),
            (
                "repo: {url: u}\nfleet: home\ntargets: {edge: {}}\n",
                "cluster/NAME",
            ),
            ("fleet: home\n", "repo"),
            (
                "repo: {url: u}\nfleet: home\nsimulated: fleet.json\n",
                "not an absolute path",
            ),
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}
