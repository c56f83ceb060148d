//! The world: the one place that makes concrete drivers of a configuration.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use camino::Utf8Path;
use secrecy::{SecretSlice, SecretString};
use trueup_core::config::{Config, Entry};
use trueup_drivers::etcd::{EtcdApi, EtcdSettings};
use trueup_drivers::k3s::{Arch, Releases};
use trueup_drivers::kube::{KubeApi, KubeSettings};
use trueup_drivers::ssh::{
    AllowList, CONNECT_LIMIT, Hop, Identity, LocalShell, SshSettings, SshShell,
};
use trueup_model::facts::Known;
use trueup_model::id::{ClusterName, Digest, NodeName};
use trueup_model::kinds::{self, Connection, Role, SshConnection};
use trueup_model::port::{ClusterApi, Etcd, NodeShell};
use trueup_sim::{Keeper, Release, SimApi, SimEtcd, SimShell};

use super::settings::Settings;
use super::simulated::FleetFile;

/// Hops of one connection: more is a loop that somebody wrote.
const HOPS_MAX: usize = 5;

/// Connections to everything that a configuration names.
#[derive(Debug)]
pub(crate) struct World {
    shells: BTreeMap<NodeName, Known<Arc<dyn NodeShell>>>,
    /// How each shell was made, to keep it over a commit that does not change it.
    ways: BTreeMap<NodeName, String>,
    clusters: BTreeMap<ClusterName, ClusterPorts>,
    releases: Source,
}

/// Where releases of k3s come from, and with them everything else: the real world, or a
/// simulated one.
#[derive(Debug, Clone)]
enum Source {
    Real(Arc<Releases>),
    Simulated(Arc<FleetFile>),
}

impl Source {
    fn new(settings: &Settings) -> Result<Self, WorldError> {
        if let Some(path) = &settings.simulated {
            return Ok(Self::Simulated(Arc::new(FleetFile::new(path))));
        }
        let cache = settings.state_dir.join("releases");
        let releases = Releases::new(&settings.k3s.releases, &cache)
            .map_err(|error| WorldError::Releases(error.to_string()))?;
        Ok(Self::Real(Arc::new(releases)))
    }
}

/// The ports of one cluster.
#[derive(Debug, Clone)]
pub(crate) struct ClusterPorts {
    /// Its name.
    pub(crate) cluster: ClusterName,
    /// Its API.
    pub(crate) api: Arc<dyn ClusterApi>,
    /// Its etcd.
    pub(crate) etcd: Arc<dyn Etcd>,
    /// The servers that it was made with.
    way: String,
}

/// Why the world cannot be made at all.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// `allow.addresses` cannot be read.
    #[error("allow.addresses in the host configuration: {0}")]
    Allow(String),
    /// The release base URL cannot be used.
    #[error("k3s.releases in the host configuration: {0}")]
    Releases(String),
}

impl World {
    /// Connections for a configuration; what is equal is taken over from `before`.
    pub(crate) fn new(
        config: &Config,
        settings: &Settings,
        before: Option<&Self>,
    ) -> Result<Self, WorldError> {
        let allow = AllowList::parse(settings.allow.addresses.iter().map(String::as_str))
            .map_err(|error| WorldError::Allow(error.to_string()))?;
        let allow = Arc::new(allow);
        let releases = match before {
            Some(before) => before.releases.clone(),
            None => Source::new(settings)?,
        };
        let mut world = Self {
            shells: BTreeMap::new(),
            ways: BTreeMap::new(),
            clusters: BTreeMap::new(),
            releases,
        };
        for (name, node) in &config.nodes {
            let way = way(config, node);
            let kept = before.filter(|before| before.ways.get(name) == Some(&way));
            let shell = match kept.and_then(|before| before.shells.get(name)) {
                Some(Known::Known(shell)) => Known::Known(Arc::clone(shell)),
                Some(Known::Unknown(_)) | None => match &world.releases {
                    Source::Real(_) => shell(config, settings, &allow, node),
                    Source::Simulated(file) => simulated_shell(file, node),
                },
            };
            world.ways.insert(name.clone(), way);
            world.shells.insert(name.clone(), shell);
        }
        for name in config.clusters.keys() {
            world.add_cluster(config, settings, name, before);
        }
        Ok(world)
    }

    fn add_cluster(
        &mut self,
        config: &Config,
        settings: &Settings,
        name: &ClusterName,
        before: Option<&Self>,
    ) {
        let members: Vec<&NodeName> = config
            .nodes
            .iter()
            .filter(|(_, node)| {
                node.spec.cluster.as_ref() == Some(name) && node.spec.role == Some(Role::Server)
            })
            .map(|(name, _)| name)
            .collect();
        let way = members
            .iter()
            .filter_map(|member| self.ways.get(*member))
            .cloned()
            .collect::<Vec<_>>()
            .join("\n");
        let kept = before
            .and_then(|before| before.clusters.get(name))
            .filter(|ports| ports.way == way);
        if let Some(ports) = kept {
            self.clusters.insert(name.clone(), ports.clone());
            return;
        }
        if let Source::Simulated(file) = &self.releases {
            let ports = simulated_cluster(file, config, name, &members, way);
            self.clusters.insert(name.clone(), ports);
            return;
        }
        let servers: Vec<(NodeName, Arc<dyn NodeShell>)> = members
            .into_iter()
            .filter_map(|member| Some((member.clone(), self.shell(member)?)))
            .collect();
        let kubeconfig = settings
            .clusters
            .get(name.as_str())
            .and_then(|access| private_file(&access.kubeconfig).ok());
        let api = KubeApi::new(KubeSettings {
            cluster: name.clone(),
            servers: servers.clone(),
            kubeconfig,
            endpoint: None,
        });
        let api = match api {
            Ok(api) => api,
            Err(error) => {
                tracing::warn!(cluster = %name, %error, "the cluster cannot be reached");
                return;
            }
        };
        let ports = ClusterPorts {
            cluster: name.clone(),
            api: Arc::new(api),
            etcd: Arc::new(EtcdApi::new(EtcdSettings {
                servers,
                tls_dir: trueup_drivers::etcd::TLS_DIR.to_owned(),
                port: trueup_drivers::etcd::CLIENT_PORT,
            })),
            way,
        };
        self.clusters.insert(name.clone(), ports);
    }

    /// The shell of a machine.
    pub(crate) fn shell(&self, name: &NodeName) -> Option<Arc<dyn NodeShell>> {
        self.shells.get(name)?.known().cloned()
    }

    /// Why a machine has no shell.
    pub(crate) fn why_no_shell(&self, name: &NodeName) -> String {
        match self.shells.get(name) {
            Some(Known::Unknown(why)) => why.clone(),
            Some(Known::Known(_)) | None => "no connection is declared".to_owned(),
        }
    }

    /// The ports of a cluster.
    pub(crate) fn cluster(&self, name: &ClusterName) -> Option<&ClusterPorts> {
        self.clusters.get(name)
    }

    /// All clusters.
    pub(crate) fn clusters(&self) -> impl Iterator<Item = (&ClusterName, &ClusterPorts)> {
        self.clusters.iter()
    }

    /// Digest of a k3s release's binary.
    pub(crate) async fn release(&self, version: &str) -> Known<Digest> {
        let digest = match &self.releases {
            Source::Real(releases) => releases
                .digest(version, Arch::Amd64)
                .await
                .map_err(|error| error.to_string()),
            Source::Simulated(_) => Release(version).digest(),
        };
        match digest {
            Ok(digest) => Known::Known(digest),
            Err(error) => Known::Unknown(error),
        }
    }

    /// The binary of a k3s release, verified.
    pub(crate) async fn binary(&self, version: &str) -> Result<SecretSlice<u8>, String> {
        let releases = match &self.releases {
            Source::Real(releases) => releases,
            Source::Simulated(_) => return Release(version).binary(),
        };
        let path = releases
            .binary(version, Arch::Amd64)
            .await
            .map_err(|error| error.to_string())?;
        let bytes = tokio::fs::read(&path)
            .await
            .map_err(|error| format!("{path}: {error}"))?;
        Ok(bytes.into())
    }
}

/// The address by which a simulated machine is found.
fn address(node: &Entry<kinds::Node>) -> &str {
    match &node.spec.connection {
        Connection::Ssh(ssh) => &ssh.address,
        Connection::Local(local) => local.address.as_deref().unwrap_or("local"),
    }
}

fn simulated_shell(file: &Arc<FleetFile>, node: &Entry<kinds::Node>) -> Known<Arc<dyn NodeShell>> {
    let keeper: Arc<dyn Keeper> = file.clone();
    Known::Known(Arc::new(SimShell::new(keeper, address(node))))
}

fn simulated_cluster(
    file: &Arc<FleetFile>,
    config: &Config,
    name: &ClusterName,
    members: &[&NodeName],
    way: String,
) -> ClusterPorts {
    let keeper: Arc<dyn Keeper> = file.clone();
    let servers: Vec<(NodeName, String)> = members
        .iter()
        .filter_map(|member| {
            let node = config.nodes.get(*member)?;
            Some(((*member).clone(), address(node).to_owned()))
        })
        .collect();
    ClusterPorts {
        cluster: name.clone(),
        api: Arc::new(SimApi::new(
            Arc::clone(&keeper),
            name.clone(),
            servers.clone(),
        )),
        etcd: Arc::new(SimEtcd::new(keeper, servers)),
        way,
    }
}

/// How a machine is reached, as text: equal texts make equal connections.
fn way(config: &Config, node: &Entry<kinds::Node>) -> String {
    let mut way = format!(
        "{:?} {:?}",
        node.spec.connection, config.fleet.spec.defaults.ssh
    );
    if let Connection::Ssh(ssh) = &node.spec.connection {
        for hop in &ssh.jump {
            if let Some(hop) = config.nodes.get(hop) {
                way.push_str(&format!(" {:?}", hop.spec.connection));
            }
        }
    }
    way
}

fn shell(
    config: &Config,
    settings: &Settings,
    allow: &Arc<AllowList>,
    node: &Entry<kinds::Node>,
) -> Known<Arc<dyn NodeShell>> {
    match &node.spec.connection {
        Connection::Local(_) => Known::Known(Arc::new(LocalShell::new())),
        Connection::Ssh(ssh) => match ssh_settings(config, settings, allow, ssh) {
            Ok(settings) => Known::Known(Arc::new(SshShell::new(settings))),
            Err(why) => Known::Unknown(why),
        },
    }
}

/// The connection to a machine that is declared.
pub(crate) fn ssh_settings(
    config: &Config,
    settings: &Settings,
    allow: &Arc<AllowList>,
    ssh: &SshConnection,
) -> Result<SshSettings, String> {
    Ok(SshSettings {
        target: hop_of(config, settings, ssh)?,
        jump: jumps(config, settings, &ssh.jump)?,
        allow: Arc::clone(allow),
        connect_limit: CONNECT_LIMIT,
    })
}

/// The machines on the way, each with its own pins.
pub(crate) fn jumps(
    config: &Config,
    settings: &Settings,
    names: &[NodeName],
) -> Result<Vec<Hop>, String> {
    if names.len() > HOPS_MAX {
        return Err(format!("more than {HOPS_MAX} jump hosts"));
    }
    let mut jump = Vec::new();
    for name in names {
        let hop = config.nodes.get(name).map(|node| &node.spec.connection);
        match hop {
            Some(Connection::Ssh(connection)) => {
                jump.push(hop_of(config, settings, connection)?);
            }
            Some(Connection::Local(_)) => {}
            None => return Err(format!("the jump host {name} is not declared")),
        }
    }
    Ok(jump)
}

fn hop_of(config: &Config, settings: &Settings, ssh: &SshConnection) -> Result<Hop, String> {
    let login = login(config, settings, ssh)?;
    Hop::new(
        &ssh.address,
        login.port,
        &login.user,
        &ssh.host_keys,
        login.identity,
    )
    .map_err(|error| error.to_string())
}

/// How a machine is logged in to, with the Fleet's defaults.
#[derive(Debug)]
pub(crate) struct Login {
    /// TCP port.
    pub(crate) port: u16,
    /// User.
    pub(crate) user: String,
    /// The private key.
    pub(crate) identity: Identity,
    /// Its file.
    pub(crate) identity_file: camino::Utf8PathBuf,
}

pub(crate) fn login(
    config: &Config,
    settings: &Settings,
    ssh: &SshConnection,
) -> Result<Login, String> {
    let defaults = &config.fleet.spec.defaults.ssh;
    let port = ssh.port.or(defaults.port).unwrap_or(22);
    let user = ssh.user.as_ref().or(defaults.user.as_ref());
    let name = ssh.identity.as_ref().or(defaults.identity.as_ref());
    let name = name.map_or("default", String::as_str);
    let path = settings
        .ssh
        .identities
        .get(name)
        .ok_or_else(|| format!("the host configuration has no ssh.identities.{name}"))?;
    Ok(Login {
        port,
        user: user.map_or("root", String::as_str).to_owned(),
        identity: identity(path)?,
        identity_file: path.clone(),
    })
}

/// A private key to log in with.
pub(crate) fn identity(path: &Utf8Path) -> Result<Identity, String> {
    use secrecy::ExposeSecret as _;
    let bytes = private_file(path)?;
    let text = String::from_utf8(bytes.expose_secret().to_vec())
        .map_err(|_| format!("{path} is not text"))?;
    Identity::parse(&SecretString::from(text)).map_err(|error| format!("{path}: {error}"))
}

/// A file that nobody but its owner may read.
pub(crate) fn private_file(path: &Utf8Path) -> Result<SecretSlice<u8>, String> {
    let mode = fs::metadata(path)
        .map_err(|error| format!("{path}: {error}"))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        return Err(format!(
            "{path} can be read by others (mode {:04o}); run: chmod 600 {path}",
            mode & 0o7777
        ));
    }
    let bytes = fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    Ok(bytes.into())
}
