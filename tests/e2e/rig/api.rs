//! The cluster's API as an administrator on the test's own host reaches it: through
//! any server that answers.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use trueup_bed::cache::Cache;

use super::{Rig, run};

/// The way to the API.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    kubectl: PathBuf,
    kubeconfig: PathBuf,
    /// Base URLs of the servers.
    pub(crate) servers: Vec<String>,
}

impl Api {
    /// Takes the administrator's kubeconfig from the first server that has one.
    pub(crate) fn open(rig: &Rig) -> Result<Self> {
        let servers = rig.servers();
        let text = servers
            .iter()
            .find_map(|server| server.read_text("/etc/rancher/k3s/k3s.yaml").ok())
            .context("no server has a kubeconfig yet")?;
        let kubeconfig = rig.bed.scratch()?.join("admin.yaml");
        fs::write(&kubeconfig, text)?;
        Ok(Self {
            kubectl: Cache::locate().program("kubectl")?,
            kubeconfig,
            servers: servers
                .iter()
                .map(|server| format!("https://{}:6443", server.ip()))
                .collect(),
        })
    }

    pub(crate) fn kubeconfig(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.kubeconfig)?)
    }

    /// Runs kubectl with `args`, on the first server that answers.
    pub(crate) fn kubectl(&self, args: &[&str]) -> Result<String> {
        let mut last = None;
        for server in &self.servers {
            let mut command = Command::new(&self.kubectl);
            command
                .arg("--kubeconfig")
                .arg(&self.kubeconfig)
                .args(["--server", server, "--request-timeout=10s"])
                .args(args);
            match run(&mut command) {
                Ok(text) => return Ok(text),
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) => Err(error),
            None => bail!("there is no server"),
        }
    }

    /// `kubectl get ARGS -o json`.
    pub(crate) fn get(&self, args: &[&str]) -> Result<Value> {
        let mut all = vec!["get"];
        all.extend(args);
        all.extend(["-o", "json"]);
        Ok(serde_json::from_str(&self.kubectl(&all)?)?)
    }

    /// Names of the Nodes that are Ready, sorted.
    pub(crate) fn ready_nodes(&self) -> Result<Vec<String>> {
        let text = self.kubectl(&["get", "nodes", "--no-headers"])?;
        let mut names: Vec<String> = text
            .lines()
            .filter(|line| line.split_whitespace().nth(1) == Some("Ready"))
            .filter_map(|line| line.split_whitespace().next())
            .map(str::to_owned)
            .collect();
        names.sort();
        Ok(names)
    }
}
