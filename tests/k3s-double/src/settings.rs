//! The merged configuration of one start: command line over files over environment.
//!
//! As k3s does it (configfilearg/parser.go, checked): values of the files become flags placed before those of the
//! command line, so the last one wins and lists join.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config_files::{self, Entries};
use crate::flags::{self, FLAGS, Flag, Kind};

/// Which command the configuration is for; it decides what an unknown key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Server,
    Agent,
}

impl Role {
    /// The sub-command's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Agent => "agent",
        }
    }

    fn takes(self, flag: &Flag) -> bool {
        match self {
            Self::Server => flag.for_server(),
            Self::Agent => flag.for_agent(),
        }
    }
}

/// The values of one start, and what is told about them on the Node.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) role: Role,
    values: BTreeMap<&'static str, Vec<String>>,
    /// The arguments as they are after the files were merged in.
    pub(crate) arguments: Vec<(String, String)>,
    /// The K3S_ variables of the environment.
    pub(crate) environment: BTreeMap<String, String>,
    /// Things to warn about once, at the start.
    pub(crate) warnings: Vec<String>,
}

impl Settings {
    /// Reads files, `arguments` (after the sub-command) and `environment`. An error is the text of a fatal line.
    pub(crate) fn load(
        role: Role,
        arguments: &[String],
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, String> {
        let given = parse_arguments(arguments)?;
        let file = environment
            .get("K3S_CONFIG_FILE")
            .cloned()
            .or_else(|| {
                given
                    .iter()
                    .rev()
                    .find(|(name, _)| name == "config")
                    .map(|(_, value)| value.clone())
            })
            .unwrap_or_else(|| "/etc/rancher/k3s/config.yaml".to_owned());
        let from_files = config_files::read(Path::new(&file))?;
        Self::merge(role, from_files, given, environment)
    }

    fn merge(
        role: Role,
        from_files: Entries,
        given: Vec<(String, String)>,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, String> {
        let mut warnings = Vec::new();
        let mut arguments = Vec::new();
        for (key, values) in from_files {
            match flags::find(&key) {
                Some(flag) if role.takes(flag) => {
                    arguments.extend(
                        values
                            .into_iter()
                            .map(|value| (flag.name.to_owned(), value)),
                    );
                }
                _ if role == Role::Server => {
                    warnings.push(format!(
                        "Unknown flag --{key} found in config.yaml, skipping"
                    ));
                }
                _ => return Err(format!("flag provided but not defined: -{key}")),
            }
        }
        for (name, value) in given {
            match flags::find(&name) {
                Some(flag) if role.takes(flag) => arguments.push((flag.name.to_owned(), value)),
                _ => return Err(format!("flag provided but not defined: -{name}")),
            }
        }
        let mut values: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
        for (name, value) in &arguments {
            if let Some(flag) = flags::find(name) {
                check_type(flag, value)?;
                values.entry(flag.name).or_default().push(value.clone());
            }
        }
        for flag in FLAGS
            .iter()
            .filter(|flag| !flag.env.is_empty() && role.takes(flag))
        {
            if let Some(value) = environment.get(flag.env).filter(|value| !value.is_empty()) {
                check_type(flag, value)?;
                values
                    .entry(flag.name)
                    .or_insert_with(|| vec![value.clone()]);
            }
        }
        let environment = environment
            .iter()
            .filter(|(name, _)| name.starts_with("K3S_"))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        Ok(Self {
            role,
            values,
            arguments,
            environment,
            warnings,
        })
    }

    /// The last value of a flag.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.values
            .get(name)?
            .last()
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// Whether a switch is on.
    pub(crate) fn switch(&self, name: &str) -> bool {
        self.text(name).is_some_and(is_true)
    }

    /// All values of a list as they were given.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        self.values.get(name).cloned().unwrap_or_default()
    }

    /// All values of a list that k3s also splits at commas (tls-san, disable, CIDRs, addresses).
    pub(crate) fn split_list(&self, name: &str) -> Vec<String> {
        self.list(name)
            .iter()
            .flat_map(|value| value.split(','))
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty())
            .collect()
    }

    /// A number, or the default when it was not given.
    pub(crate) fn number(&self, name: &str, default: u16) -> u16 {
        self.text(name)
            .and_then(|value| value.parse().ok())
            .unwrap_or(default)
    }

    /// The data directory, /var/lib/rancher/k3s unless set.
    pub(crate) fn data_dir(&self) -> PathBuf {
        PathBuf::from(self.text("data-dir").unwrap_or("/var/lib/rancher/k3s"))
    }

    /// The token, from `token` or the file that `token-file` names.
    pub(crate) fn token(&self) -> Result<Option<String>, String> {
        self.secret("token", "token-file")
    }

    /// The agent token, from `agent-token` or the file that `agent-token-file` names.
    pub(crate) fn agent_token(&self) -> Result<Option<String>, String> {
        self.secret("agent-token", "agent-token-file")
    }

    fn secret(&self, name: &str, file: &str) -> Result<Option<String>, String> {
        if let Some(value) = self.text(name) {
            return Ok(Some(value.to_owned()));
        }
        let Some(path) = self.text(file) else {
            return Ok(None);
        };
        let value =
            std::fs::read_to_string(path).map_err(|error| format!("open {path}: {error}"))?;
        Ok(Some(value.trim().to_owned()))
    }
}

fn is_true(value: &str) -> bool {
    matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

fn check_type(flag: &Flag, value: &str) -> Result<(), String> {
    let name = flag.name;
    match flag.kind {
        Kind::Switch
            if !is_true(value)
                && !matches!(value, "0" | "f" | "F" | "false" | "FALSE" | "False") =>
        {
            Err(format!(
                "invalid boolean value {value:?} for -{name}: parse error"
            ))
        }
        Kind::Number if value.parse::<i64>().is_err() => Err(format!(
            "invalid value {value:?} for flag -{name}: parse error"
        )),
        _ => Ok(()),
    }
}

fn parse_arguments(arguments: &[String]) -> Result<Vec<(String, String)>, String> {
    let mut parsed = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let Some(name) = argument
            .strip_prefix("--")
            .or_else(|| argument.strip_prefix('-'))
        else {
            return Err(format!("invalid argument {argument:?}"));
        };
        if let Some((name, value)) = name.split_once('=') {
            parsed.push((name.to_owned(), value.to_owned()));
        } else if flags::find(name).is_none_or(|flag| flag.kind == Kind::Switch) {
            parsed.push((name.to_owned(), "true".to_owned()));
        } else {
            let value = rest
                .next()
                .ok_or_else(|| format!("flag needs an argument: -{name}"))?;
            parsed.push((name.to_owned(), value.clone()));
        }
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(
        role: Role,
        files: &[&str],
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Settings, String> {
        let mut merged = Vec::new();
        for file in files {
            config_files::merge(&mut merged, file)?;
        }
        let arguments: Vec<String> = arguments.iter().map(|&text| text.to_owned()).collect();
        let environment = environment
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Settings::merge(role, merged, parse_arguments(&arguments)?, &environment)
    }

    #[test]
    fn lists_join_and_the_last_value_wins() {
        for (files, arguments, environment, expected) in [
            (&["node-label: [a=1]"][..], &[][..], &[][..], &["a=1"][..]),
            (
                &["node-label: [a=1]", "node-label: [b=2]"],
                &[],
                &[],
                &["b=2"],
            ),
            (
                &["node-label: [a=1]", "node-label+: [b=2]"],
                &[],
                &[],
                &["a=1", "b=2"],
            ),
            (
                &["node-label: a=1", "node-label+: b=2", "node-label: c=3"],
                &[],
                &[],
                &["c=3"],
            ),
            (
                &["node-label: [a=1]"],
                &["--node-label", "x=9"],
                &[],
                &["a=1", "x=9"],
            ),
        ] {
            let settings = load(Role::Server, files, arguments, environment).unwrap();
            assert_eq!(
                settings.list("node-label"),
                expected,
                "{files:?} {arguments:?}"
            );
        }
    }

    #[test]
    fn command_line_beats_file_beats_environment() {
        let environment = [("K3S_TOKEN", "from-env"), ("K3S_URL", "https://env:6443")];
        let settings = load(
            Role::Server,
            &["token: from-file"],
            &["--token=from-cli"],
            &environment,
        )
        .unwrap();
        assert_eq!(settings.text("token"), Some("from-cli"));
        let settings = load(Role::Server, &["token: from-file"], &[], &environment).unwrap();
        assert_eq!(settings.text("token"), Some("from-file"));
        assert_eq!(settings.text("server"), Some("https://env:6443"));
    }

    #[test]
    fn an_unknown_key_warns_a_server_and_ends_an_agent() {
        let settings = load(
            Role::Server,
            &["no-such-key: 1\ncluster-init: true"],
            &[],
            &[],
        )
        .unwrap();
        assert_eq!(
            settings.warnings,
            ["Unknown flag --no-such-key found in config.yaml, skipping"]
        );
        assert!(settings.switch("cluster-init"));
        for key in ["no-such-key", "cluster-init"] {
            let error = load(Role::Agent, &[&format!("{key}: true")], &[], &[]).unwrap_err();
            assert_eq!(error, format!("flag provided but not defined: -{key}"));
        }
    }

    #[test]
    fn a_wrong_type_is_fatal() {
        for file in [
            "cluster-init: maybe",
            "cluster-init:",
            "https-listen-port: many",
        ] {
            assert!(load(Role::Server, &[file], &[], &[]).is_err(), "{file}");
        }
        for file in ["[]", "a: [", "just text"] {
            assert!(load(Role::Server, &[file], &[], &[]).is_err(), "{file}");
        }
        assert!(load(Role::Server, &[""], &["--no-such"], &[]).is_err());
    }
}
