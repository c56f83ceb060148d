//! A bed: some machines on one bridge, for as long as a test needs them.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::IpAddr,
    os::unix::fs::{MetadataExt, chown},
    path::PathBuf,
    thread,
};

use anyhow::{Context, Result};

use crate::{
    cache::Cache,
    disk::{Disk, PLAIN_DIR},
    host,
    keys::KeyPair,
    machine::Machine,
    network::{Bridge, Port},
    power::{Launch, Power},
    run::{Run, lock_big},
};

/// One machine that a test asks for.
#[derive(Debug, Clone)]
pub struct MachineSpec {
    /// Its host name; letters, digits and `-`.
    pub name: String,
}

/// What a test asks for.
#[derive(Debug, Clone, Default)]
pub struct BedSpec {
    pub machines: Vec<MachineSpec>,
    /// Host path -> path in every machine, read-only.
    pub binds_ro: Vec<(PathBuf, String)>,
    /// Environment of every service, login and [`Machine::exec`].
    pub env: BTreeMap<String, String>,
    /// Wait until no other bed that asked for this is there: for beds that fill the host.
    pub alone: bool,
    /// What the real k3s needs: its packages, all capabilities, forwarding, and three settings
    /// of the host (put back afterwards). Such beds run one at a time.
    pub k3s_ready: bool,
    /// Machines have Python: for tools that are measured beside trueup.
    pub python: bool,
}

impl BedSpec {
    /// Machines of these names.
    pub fn named(names: &[&str]) -> Self {
        let machines = names
            .iter()
            .map(|name| MachineSpec {
                name: (*name).to_owned(),
            })
            .collect();
        Self {
            machines,
            ..Self::default()
        }
    }

    /// Machines `m1`, `m2`, ...
    pub fn with_machines(count: usize) -> Self {
        let names: Vec<String> = (1..=count).map(|number| format!("m{number}")).collect();
        Self::named(&names.iter().map(String::as_str).collect::<Vec<_>>())
    }

    pub fn bind_ro(mut self, host: impl Into<PathBuf>, inside: &str) -> Self {
        self.binds_ro.push((host.into(), inside.to_owned()));
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    pub fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    pub fn k3s_ready(mut self) -> Self {
        self.k3s_ready = true;
        self
    }
}

/// Running machines. Dropping it removes them.
#[derive(Debug)]
pub struct Bed {
    machines: Vec<Machine>,
    bridge: Bridge,
    login: KeyPair,
    known_hosts: PathBuf,
    run: Run,
    _alone: Option<File>,
}

impl Bed {
    /// Makes the machines, all off: for tests that prepare disks before the first boot.
    pub fn build(spec: &BedSpec) -> Result<Self> {
        let alone = if spec.alone || spec.k3s_ready {
            Some(lock_big()?)
        } else {
            None
        };
        let run = Run::begin()?;
        if spec.k3s_ready {
            host::suit_kubelet(&run.ledger())?;
        }
        let bridge = Bridge::create(&run)?;
        let login = KeyPair::generate(&run.home().join("id_ed25519"), "trueup-bed")?;
        let known_hosts = run.home().join("known_hosts");
        let mut machines = Vec::new();
        for (index, machine) in spec.machines.iter().enumerate() {
            let maker = Maker {
                run: &run,
                bridge: &bridge,
                spec,
                login: &login,
                known_hosts: &known_hosts,
            };
            machines.push(maker.make(u8::try_from(index)?, machine)?);
        }
        let bed = Self {
            machines,
            bridge,
            login,
            known_hosts,
            run,
            _alone: alone,
        };
        bed.introduce()?;
        Ok(bed)
    }

    /// Makes the machines and starts them together; returns when every sshd answers.
    pub fn start(spec: BedSpec) -> Result<Self> {
        let bed = Self::build(&spec)?;
        bed.power_on_all()?;
        Ok(bed)
    }

    /// Starts all machines that are off, together.
    pub fn power_on_all(&self) -> Result<()> {
        thread::scope(|scope| {
            let starts: Vec<_> = self
                .machines
                .iter()
                .filter(|machine| !machine.is_on())
                .map(|machine| scope.spawn(|| machine.power_on()))
                .collect();
            starts
                .into_iter()
                .try_for_each(|start| start.join().expect("starting a machine does not panic"))
        })
    }

    /// The machine of this name; a test that names another one is wrong.
    pub fn machine(&self, name: &str) -> &Machine {
        self.machines
            .iter()
            .find(|machine| machine.name == name)
            .unwrap_or_else(|| panic!("no machine {name}"))
    }

    pub fn machines(&self) -> &[Machine] {
        &self.machines
    }

    /// The run's name.
    pub fn id(&self) -> &str {
        self.run.id()
    }

    /// The host's address as the machines see it.
    pub fn host_ip(&self) -> IpAddr {
        self.bridge.address().into()
    }

    /// The private key that every machine's `root` and `ops` accept.
    pub fn ssh_key_path(&self) -> PathBuf {
        self.login.path().to_owned()
    }

    /// Its public half.
    pub fn ssh_public_key(&self) -> &str {
        self.login.public()
    }

    /// A known_hosts file with every machine's true key, by name and address.
    pub fn known_hosts_path(&self) -> PathBuf {
        self.known_hosts.clone()
    }

    /// A folder of the test's own that goes with the bed.
    pub fn scratch(&self) -> Result<PathBuf> {
        let dir = self.run.disks().join(".scratch");
        fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    /// Tells the machines of each other, and the tests of the machines' keys.
    fn introduce(&self) -> Result<()> {
        let mut hosts = String::from("127.0.0.1 localhost\n");
        let mut keys = String::new();
        for machine in &self.machines {
            let (ip, name) = (machine.ip(), &machine.name);
            hosts.push_str(&format!("{ip} {name}\n"));
            keys.push_str(&format!("{ip},{name} {}\n", machine.host_key_openssh()));
        }
        hosts.push_str(&format!("{} bed-host\n", self.host_ip()));
        for machine in &self.machines {
            machine.disk.write("/etc/hosts", 0o644, &hosts)?;
        }
        fs::write(&self.known_hosts, keys).context("cannot write known_hosts")
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // The threads that start machines again after a reboot must know first that it is over;
        // what fails here, the run's removal does by force.
        for machine in &self.machines {
            drop(machine.power_cut());
        }
    }
}

struct Maker<'a> {
    run: &'a Run,
    bridge: &'a Bridge,
    spec: &'a BedSpec,
    login: &'a KeyPair,
    known_hosts: &'a PathBuf,
}

impl Maker<'_> {
    fn make(&self, index: u8, machine: &MachineSpec) -> Result<Machine> {
        let name = &machine.name;
        let valid = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        anyhow::ensure!(valid && name.len() <= 32, "{name:?} is no host name");
        let cache = Cache::locate();
        let tree = if self.spec.k3s_ready {
            cache.tree_k3s()?
        } else if self.spec.python {
            cache.tree_python()?
        } else {
            cache.tree()?
        };
        let port = Port::reserve(self.run, self.bridge, index, name, self.spec.k3s_ready)?;
        let disk = Disk::create(self.run, name, &tree)?;
        let home = self.run.home().join("machines").join(name);
        let host_key = KeyPair::generate(&home.join("host_key"), name)?;
        let machine_id = machine_id(self.run.id(), index);
        self.personalise(&disk, &host_key, &machine_id)?;
        let launch = Launch {
            words: self.nspawn_words(name, &disk, &port, &machine_id),
            group: self.run.group(name),
            ledger: self.run.ledger(),
            console: home.join("console.log"),
        };
        Ok(Machine {
            name: name.clone(),
            port,
            disk,
            host_key,
            login: self.login.path().to_owned(),
            known_hosts: self.known_hosts.clone(),
            env: self.spec.env.clone().into_iter().collect(),
            launch,
            power: Power::default(),
        })
    }

    /// What makes a disk this machine's: identity, keys, who may log in.
    fn personalise(&self, disk: &Disk, host_key: &KeyPair, machine_id: &str) -> Result<()> {
        disk.write("/etc/machine-id", 0o444, format!("{machine_id}\n"))?;
        disk.write(
            "/etc/ssh/ssh_host_ed25519_key",
            0o600,
            fs::read(host_key.path())?,
        )?;
        disk.write(
            "/etc/ssh/ssh_host_ed25519_key.pub",
            0o644,
            format!("{}\n", host_key.public()),
        )?;
        for home in ["/root", "/home/ops"] {
            let owner = fs::metadata(disk.host_path(home)?)?;
            let ssh = format!("{home}/.ssh");
            disk.write(
                &format!("{ssh}/authorized_keys"),
                0o600,
                format!("{}\n", self.login.public()),
            )?;
            for path in [ssh.clone(), format!("{ssh}/authorized_keys")] {
                chown(disk.host_path(&path)?, Some(owner.uid()), Some(owner.gid()))?;
            }
        }
        if !self.spec.env.is_empty() {
            let pairs = || {
                self.spec
                    .env
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
            };
            let quoted = pairs()
                .map(|pair| format!("\"{pair}\""))
                .collect::<Vec<_>>()
                .join(" ");
            let manager = format!("[Manager]\nDefaultEnvironment={quoted}\n");
            disk.write("/etc/systemd/system.conf.d/bed.conf", 0o644, manager)?;
            disk.write(
                "/etc/environment",
                0o644,
                pairs().collect::<Vec<_>>().join("\n") + "\n",
            )?;
        }
        Ok(())
    }

    fn nspawn_words(&self, name: &str, disk: &Disk, port: &Port, machine_id: &str) -> Vec<String> {
        let mut words: Vec<String> = [
            "systemd-nspawn",
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--boot",
            "--console=pipe",
            // Its own files are not to be changed by systemd-nspawn.
            "--resolv-conf=off",
            "--timezone=off",
            "--link-journal=no",
        ]
        .map(str::to_owned)
        .to_vec();
        words.push(format!("--directory={}", disk.root().display()));
        words.push(format!("--machine={}-{name}", self.run.id()));
        words.push(format!("--hostname={name}"));
        words.push(format!("--uuid={machine_id}"));
        words.push(format!(
            "--network-namespace-path={}",
            port.namespace_path().display()
        ));
        words.push(format!("--bind={}:{PLAIN_DIR}", disk.plain().display()));
        for (host, inside) in &self.spec.binds_ro {
            let host = host.canonicalize().unwrap_or_else(|_| host.clone());
            words.push(format!("--bind-ro={}:{inside}", host.display()));
        }
        if self.spec.k3s_ready {
            words.extend(
                [
                    "--capability=all",
                    "--system-call-filter=@default @keyring bpf",
                    "--bind=/dev/kmsg",
                ]
                .map(str::to_owned),
            );
        }
        words
    }
}

/// A machine-id of the run: 32 hexadecimal digits, a valid UUID of version 4.
fn machine_id(run: &str, index: u8) -> String {
    format!("7e57bed{run}40008000{:010}{index:02x}", 0)
}
