//! `cluster kubeconfig`: a cluster's administrator credential for a person's `kubectl`.
//! Explicit, 0600, atomic; another person's entries in a file are never touched.

use std::io;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use serde_json::{Map, Value, json};
use trueup_core::config::Config;
use trueup_model::document::{Resolver, parse, write_yaml};
use trueup_model::id::{ClusterName, NodeName};
use trueup_model::kinds::{Connection, Role};

use super::{file, fleet};
use crate::app::settings::Settings;
use crate::app::world::World;
use crate::cli::Failure;
use crate::cli::exit::Exit;

/// Where a k3s server keeps its administrator's kubeconfig (k3s, `--write-kubeconfig`).
const ON_SERVER: &str = "/etc/rancher/k3s/k3s.yaml";
/// A file with hundreds of contexts; more is something else.
const BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The lists of a kubeconfig, with the key of what an entry holds.
const LISTS: [(&str, &str); 3] = [
    ("clusters", "cluster"),
    ("contexts", "context"),
    ("users", "user"),
];

/// A credential, ready to be written.
pub(crate) struct Kubeconfig {
    /// Name of its context, cluster and user.
    pub(crate) context: String,
    /// The API server.
    pub(crate) server: String,
    entries: [Value; 3],
}

impl std::fmt::Debug for Kubeconfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kubeconfig")
            .field("context", &self.context)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// Read a cluster's credential over the pinned connection of its first server that has it.
pub(crate) async fn fetch(
    config_file: &Utf8Path,
    name: &str,
    server: Option<&str>,
) -> Result<Kubeconfig, Failure> {
    let settings = Settings::read(config_file)
        .map_err(|error| Failure::new("TU0901", error.to_string()).next("trueup doctor"))?;
    let config = fleet::newest(&settings).await?;
    let cluster = declared(&config, name)?;
    let world = World::new(&config, &settings, None)
        .map_err(|error| Failure::new("TU0903", error.to_string()).next("trueup doctor"))?;
    let mut tried = Vec::new();
    for (node, address) in servers(&config, &cluster) {
        let why = match world.shell(&node) {
            Some(shell) => match shell.read_secret(ON_SERVER).await {
                Ok(Some(text)) => {
                    let default = host(&address);
                    return rewritten(&cluster, &text, server, &default)
                        .map_err(|why| unusable(&format!("{ON_SERVER} of {node}: {why}")));
                }
                Ok(None) => format!("{ON_SERVER} does not exist"),
                Err(error) => error.to_string(),
            },
            None => world.why_no_shell(&node),
        };
        tried.push(format!("{node}: {why}"));
    }
    let exit = if tried.iter().any(|why| why.contains("which is not pinned")) {
        Exit::HostKey
    } else {
        Exit::Error
    };
    if tried.is_empty() {
        tried.push("no Node is a server of it".to_owned());
    }
    Err(unusable(&tried.join("; ")).exit(exit))
}

fn unusable(why: &str) -> Failure {
    Failure::new("TU0954", format!("no kubeconfig: {why}")).next("trueup doctor")
}

fn declared(config: &Config, name: &str) -> Result<ClusterName, Failure> {
    let known = config.clusters.keys().find(|known| known.as_str() == name);
    known.cloned().ok_or_else(|| {
        let names: Vec<&str> = config.clusters.keys().map(ClusterName::as_str).collect();
        let first = names.first().copied().unwrap_or("NAME");
        Failure::new(
            "TU0906",
            format!(
                "the fleet has no cluster {name} (it has: {})",
                names.join(", ")
            ),
        )
        .next(format!("trueup cluster kubeconfig {first}"))
        .exit(Exit::Usage)
    })
}

/// Servers of a cluster with the addresses that they are reached at.
fn servers(config: &Config, cluster: &ClusterName) -> Vec<(NodeName, String)> {
    let nodes = config.nodes.iter().filter(|(_, node)| {
        node.spec.cluster.as_ref() == Some(cluster) && node.spec.role == Some(Role::Server)
    });
    nodes
        .map(|(name, node)| {
            let address = match &node.spec.connection {
                Connection::Ssh(ssh) => ssh.address.clone(),
                Connection::Local(local) => local
                    .address
                    .clone()
                    .unwrap_or_else(|| "127.0.0.1".to_owned()),
            };
            (name.clone(), address)
        })
        .collect()
}

fn host(address: &str) -> String {
    if address.contains(':') {
        format!("[{address}]")
    } else {
        address.to_owned()
    }
}

/// The current context of a kubeconfig under our name, with another server.
fn rewritten(
    cluster: &ClusterName,
    text: &SecretSlice<u8>,
    server: Option<&str>,
    host: &str,
) -> Result<Kubeconfig, String> {
    let text = std::str::from_utf8(text.expose_secret()).map_err(|_| "it is not text")?;
    let root = read(text)?;
    let named = |list: &str, name: &Value| -> Option<&Value> {
        let entries = root.get(list)?.as_array()?;
        entries.iter().find(|entry| entry.get("name") == Some(name))
    };
    let missing = || "it has no current context".to_owned();
    let current = root.get("current-context").ok_or_else(missing)?;
    let context = named("contexts", current)
        .and_then(|entry| entry.get("context"))
        .ok_or_else(missing)?;
    let part = |list: &str, key: &str| -> Option<Value> {
        named(list, context.get(key)?)?.get(key).cloned()
    };
    let mut of_cluster = part("clusters", "cluster").ok_or_else(missing)?;
    let user = part("users", "user").ok_or_else(missing)?;
    let old = of_cluster
        .get("server")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let port = old
        .rsplit(':')
        .next()
        .and_then(|port| port.trim_end_matches('/').parse::<u16>().ok())
        .unwrap_or(6443);
    let server = server.map_or_else(|| format!("https://{host}:{port}"), str::to_owned);
    let name = format!("trueup-{cluster}");
    if let Some(map) = of_cluster.as_object_mut() {
        map.insert("server".to_owned(), json!(server));
    }
    Ok(Kubeconfig {
        entries: [
            json!({ "name": name, "cluster": of_cluster }),
            json!({ "name": name, "context": { "cluster": name, "user": name } }),
            json!({ "name": name, "user": user }),
        ],
        context: name,
        server,
    })
}

/// A kubeconfig as `kubectl` reads it. Messages never quote the text.
fn read(text: &str) -> Result<Value, String> {
    let name: Arc<str> = "kubeconfig".into();
    let parsed = parse(&name, text, Resolver::Kubernetes);
    if let Some(finding) = parsed.findings.first() {
        return Err(format!("it is broken at {}", finding.place()));
    }
    let root = match parsed.documents.as_slice() {
        [] => json!({}),
        [document] => document.root.to_json(),
        _ => return Err("it holds more than one document".to_owned()),
    };
    let shaped = root.as_object().is_some_and(|map| {
        LISTS.iter().all(|(list, _)| match map.get(*list) {
            None | Some(Value::Null) => true,
            Some(Value::Array(entries)) => entries
                .iter()
                .all(|entry| entry.get("name").is_some_and(Value::is_string)),
            Some(_) => false,
        })
    });
    if shaped {
        Ok(root)
    } else {
        Err("it does not have the shape of a kubeconfig".to_owned())
    }
}

impl Kubeconfig {
    /// A file of its own.
    pub(crate) fn text(&self) -> Result<SecretString, Failure> {
        self.merged(json!({ "apiVersion": "v1", "kind": "Config" }))
    }

    fn merged(&self, mut root: Value) -> Result<SecretString, Failure> {
        let empty = Map::new();
        let map = root.as_object_mut();
        let mut map = map.map_or(empty, std::mem::take);
        for (key, value) in [("apiVersion", "v1"), ("kind", "Config")] {
            map.entry(key).or_insert_with(|| json!(value));
        }
        for ((list, _), ours) in LISTS.iter().zip(&self.entries) {
            let entries = map.entry(*list).or_insert_with(|| json!([]));
            if entries.is_null() {
                *entries = json!([]);
            }
            let Some(entries) = entries.as_array_mut() else {
                continue;
            };
            let name = ours.get("name");
            match entries.iter_mut().find(|entry| entry.get("name") == name) {
                Some(old) => *old = ours.clone(),
                None => entries.push(ours.clone()),
            }
        }
        let current = map.get("current-context").and_then(Value::as_str);
        if current.is_none_or(str::is_empty) {
            map.insert("current-context".to_owned(), json!(self.context));
        }
        write_yaml(&Value::Object(map))
            .map(SecretString::from)
            .map_err(|error| Failure::new("TU0900", error.to_string()))
    }

    /// Write it to a file of its own; one of somebody else is left alone.
    pub(crate) fn write(&self, path: &Utf8Path) -> Result<(), Failure> {
        if let Some(there) = existing(path)? {
            let ours = there.get("contexts").and_then(Value::as_array);
            let ours = ours.is_some_and(|entries| match entries.as_slice() {
                [only] => only.get("name") == Some(&json!(self.context)),
                _ => false,
            });
            if !ours {
                return Err(Failure::new(
                    "TU0955",
                    format!("{path} holds other contexts and is left as it is"),
                )
                .next(format!(
                    "KUBECONFIG={path} trueup cluster kubeconfig {} --merge",
                    self.cluster()
                )));
            }
        }
        put(path, &self.text()?)
    }

    fn cluster(&self) -> &str {
        self.context.trim_start_matches("trueup-")
    }

    /// Put it into a file beside the entries of others.
    pub(crate) fn merge(&self, path: &Utf8Path) -> Result<(), Failure> {
        let there = existing(path)?.unwrap_or_else(|| json!({}));
        // A link keeps pointing where it does.
        let path = path.canonicalize_utf8().unwrap_or_else(|_| path.to_owned());
        put(&path, &self.merged(there)?)
    }
}

/// What a file holds; a broken one is refused and stays as it is.
fn existing(path: &Utf8Path) -> Result<Option<Value>, Failure> {
    let refused = |why: String| {
        Failure::new("TU0955", format!("{path} is left as it is: {why}"))
            .next(format!("kubectl --kubeconfig {path} config view"))
    };
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refused(error.to_string())),
        Ok(found) if found.len() > BYTES_MAX => {
            return Err(refused(format!("it is larger than {BYTES_MAX} bytes")));
        }
        Ok(_) => {}
    }
    let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
    read(&text).map(Some).map_err(refused)
}

fn put(path: &Utf8Path, text: &SecretString) -> Result<(), Failure> {
    let folder = path.parent().filter(|folder| !folder.as_str().is_empty());
    folder
        .map_or(Ok(()), std::fs::create_dir_all)
        .and_then(|()| file::replace(path, 0o600, text.expose_secret().as_bytes()))
        .map_err(|error| {
            Failure::new("TU0944", format!("cannot write {path}: {error}"))
                .next("trueup cluster kubeconfig with --out FILE")
        })
}

/// The file that `--merge` means: the first of `KUBECONFIG`, else the usual one.
pub(crate) fn usual() -> Result<Utf8PathBuf, Failure> {
    let listed = std::env::var("KUBECONFIG").unwrap_or_default();
    if let Some(first) = listed.split(':').find(|path| !path.is_empty()) {
        return Ok(first.into());
    }
    match std::env::var("HOME") {
        Ok(home) if !home.is_empty() => Ok(Utf8Path::new(&home).join(".kube/config")),
        _ => Err(Failure::new("TU0940", "neither KUBECONFIG nor HOME is set")
            .next("KUBECONFIG=./kubeconfig trueup cluster kubeconfig NAME --merge")
            .exit(Exit::Usage)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const K3S: &str = "apiVersion: v1
clusters:
- {name: default, cluster: {server: \"https://127.0.0.1:6443\", certificate-authority-data: Q0E=}}
contexts:
- {name: default, context: {cluster: default, user: default}}
current-context: default
users:
- {name: default, user: {client-key-data: S0VZ}}
";

    fn ours(server: Option<&str>) -> Kubeconfig {
        let text = SecretSlice::from(K3S.as_bytes().to_vec());
        rewritten(&"edge".parse().unwrap(), &text, server, "10.0.0.5").unwrap()
    }

    #[test]
    fn it_stands_alone_under_a_name_of_its_own() {
        let text = ours(None).text().unwrap();
        let read = read(text.expose_secret()).unwrap();
        assert_eq!(read["current-context"], "trueup-edge");
        assert_eq!(
            read["clusters"][0]["cluster"]["server"],
            "https://10.0.0.5:6443"
        );
        assert_eq!(read["users"][0]["user"]["client-key-data"], "S0VZ");
        let other = ours(Some("https://api.example:443"));
        assert_eq!(other.server, "https://api.example:443");
        assert!(!format!("{other:?}").contains("S0VZ"));
    }

    #[test]
    fn others_stay_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(folder.path().join("config")).unwrap();
        let theirs = "current-context: work
contexts: [{name: work, context: {cluster: w, user: w, namespace: 'on'}}]
clusters: [{name: w, cluster: {server: 'https://w'}}, {name: trueup-edge, cluster: {server: old}}]
users: [{name: w, user: {token: '0644'}}]
preferences: {colors: true}
";
        std::fs::write(&path, theirs).unwrap();
        for _ in 0..2 {
            ours(None).merge(&path).unwrap();
        }
        let now = read(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(now["current-context"], "work");
        assert_eq!(now["contexts"][0]["context"]["namespace"], "on");
        assert_eq!(now["users"][0]["user"]["token"], "0644");
        assert_eq!(now["preferences"]["colors"], true);
        assert_eq!(now["clusters"].as_array().unwrap().len(), 2);
        assert_eq!(
            now["clusters"][1]["cluster"]["server"],
            "https://10.0.0.5:6443"
        );
        assert_eq!(now["contexts"].as_array().unwrap().len(), 2);
        let refused = ours(None).write(&path).unwrap_err();
        assert_eq!(refused.code, "TU0955");
    }

    #[test]
    fn a_broken_file_is_refused_and_untouched() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(folder.path().join("config")).unwrap();
        for broken in [
            "clusters: [",
            "clusters: 7\n",
            "- a\n",
            "users: [{user: {}}]\n",
        ] {
            std::fs::write(&path, broken).unwrap();
            assert_eq!(
                ours(None).merge(&path).unwrap_err().code,
                "TU0955",
                "{broken}"
            );
            assert_eq!(std::fs::read_to_string(&path).unwrap(), broken);
        }
    }
}
