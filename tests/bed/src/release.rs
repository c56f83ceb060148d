//! A release server with the layout of k3s' own: GitHub's download paths with
//! their checksum files, and the channel server (k3s documentation, "Manual
//! upgrades"; `update.k3s.io/v1-release/channels` as of 2026). It can be told to
//! lie, fail and hang, because real ones do.

mod http;

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};

use self::http::{Reply, Request};

/// A hung request ends with the fault or the server; this is for a test that forgot both.
const HANG_LIMIT: Duration = Duration::from_secs(600);

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// One byte in the middle is another one; the length is right.
    Corrupt,
    /// This status and no content.
    Status(u16),
    /// The connection closes after this many bytes of the content.
    CutAfter(usize),
    /// The request is read and nothing is answered.
    Hang,
}

/// A running server. Dropping it closes the port.
#[derive(Debug)]
pub struct ReleaseServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// `<version>/<asset>`: `v1.36.3+k3s1/k3s`.
    dir: PathBuf,
    base: String,
    state: Mutex<State>,
    changed: Condvar,
    closing: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    channels: BTreeMap<String, String>,
    /// A part of a path -> what goes wrong there.
    faults: Vec<(String, Fault)>,
    requests: Vec<String>,
}

impl ReleaseServer {
    /// Serves `dir/<version>/<asset>` on the loopback.
    pub fn start(dir: &Path) -> Result<Self> {
        Self::start_on(Ipv4Addr::LOCALHOST.into(), dir)
    }

    /// Serves it on one address: [`crate::Bed::host_ip`], for machines.
    pub fn start_on(ip: IpAddr, dir: &Path) -> Result<Self> {
        let listener =
            TcpListener::bind((ip, 0)).with_context(|| format!("cannot listen on {ip}"))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            base: format!("http://{address}"),
            state: Mutex::default(),
            changed: Condvar::new(),
            closing: AtomicBool::new(false),
        });
        let acceptor = {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name("bed-releases".to_owned())
                .spawn(move || accept(&listener, &shared))?
        };
        Ok(Self {
            address,
            shared,
            acceptor: Some(acceptor),
        })
    }

    /// `http://ADDRESS:PORT`, what stands for both GitHub's and the channel server's base.
    pub fn base_url(&self) -> &str {
        &self.shared.base
    }

    /// Points a channel (`stable`, `v1.36`) at a version.
    pub fn set_channel(&self, channel: &str, version: &str) {
        self.shared
            .lock()
            .channels
            .insert(channel.to_owned(), version.to_owned());
    }

    /// From now on requests whose path holds `part` go wrong this way.
    pub fn set_fault(&self, part: &str, fault: Fault) {
        let mut state = self.shared.lock();
        state.faults.retain(|(known, _)| known != part);
        state.faults.push((part.to_owned(), fault));
    }

    /// Everything works again; what hangs is answered.
    pub fn clear_faults(&self) {
        self.shared.lock().faults.clear();
        self.shared.changed.notify_all();
    }

    /// `METHOD path` of every request so far, in order.
    pub fn requests(&self) -> Vec<String> {
        self.shared.lock().requests.clone()
    }
}

impl Drop for ReleaseServer {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        self.clear_faults();
        // The acceptor waits in accept(); a connection wakes it.
        drop(std::net::TcpStream::connect_timeout(
            &self.address,
            Duration::from_secs(1),
        ));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// Notes the request and says what goes wrong with it; a hang is over when this returns.
    fn admit(&self, request: &Request) -> Option<Fault> {
        let mut state = self.lock();
        state
            .requests
            .push(format!("{} {}", request.method, request.path));
        let fault_of = |state: &State| {
            state
                .faults
                .iter()
                .rev()
                .find(|(part, _)| request.path.contains(part.as_str()))
                .map(|(_, fault)| *fault)
        };
        let fault = fault_of(&state);
        if fault == Some(Fault::Hang) {
            let hangs = |state: &mut State| fault_of(state) == Some(Fault::Hang);
            drop(self.changed.wait_timeout_while(state, HANG_LIMIT, hangs));
        }
        fault
    }

    fn answer(&self, request: &Request) -> Reply {
        if request.method != "GET" && request.method != "HEAD" {
            return Reply::status(405);
        }
        let Some(path) = http::percent_decode(&request.path) else {
            return Reply::status(400);
        };
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        match parts.as_slice() {
            ["releases", "download", version, asset] => self.asset(&request.path, version, asset),
            ["v1-release", "channels"] => self.channels(),
            ["v1-release", "channels", id] => self.channel(id),
            _ => Reply::status(404),
        }
    }

    fn asset(&self, raw_path: &str, version: &str, asset: &str) -> Reply {
        // GitHub reads a bare `+` as itself too, but trueup is to write it as %2B.
        if raw_path.contains('+') || [version, asset].iter().any(|part| part.starts_with('.')) {
            return Reply::status(404);
        }
        let release = self.dir.join(version);
        match fs::read(release.join(asset)) {
            Ok(content) => Reply::content("application/octet-stream", content),
            Err(_) if asset == "sha256sum-amd64.txt" => match checksums(&release) {
                Ok(text) => Reply::content("text/plain", text.into_bytes()),
                Err(_) => Reply::status(404),
            },
            Err(_) => Reply::status(404),
        }
    }

    fn channels(&self) -> Reply {
        let this = |id: &str| format!("{}/v1-release/channels/{id}", self.base);
        let channels = self.lock().channels.clone();
        let data: Vec<_> = channels
            .iter()
            .map(|(id, latest)| {
                json!({ "id": id, "type": "channel", "links": { "self": this(id) }, "name": id, "latest": latest })
            })
            .collect();
        let list = json!({
            "type": "collection",
            "links": { "self": format!("{}/v1-release/channels", self.base) },
            "actions": {},
            "resourceType": "channels",
            "data": data,
        });
        Reply::content("application/json", list.to_string().into_bytes())
    }

    fn channel(&self, id: &str) -> Reply {
        match self.lock().channels.get(id) {
            Some(version) => Reply::redirect(&format!(
                "{}/releases/tag/{}",
                self.base,
                version.replace('+', "%2B")
            )),
            None => Reply::status(404),
        }
    }
}

/// The checksum file of a release folder, as `sha256sum` writes it.
fn checksums(release: &Path) -> Result<String> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(release)? {
        let entry = entry?;
        let digest = Sha256::digest(fs::read(entry.path())?);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        lines.push(format!("{hex}  {}\n", entry.file_name().to_string_lossy()));
    }
    lines.sort_by(|one, other| one[64..].cmp(&other[64..]));
    Ok(lines.concat())
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.closing.load(Ordering::SeqCst) {
            return;
        }
        let Ok(mut stream) = stream else { continue };
        let shared = Arc::clone(shared);
        // One connection, one request: whoever hangs hangs alone. A client that went away is its own affair.
        thread::spawn(move || {
            let Ok(request) = Request::read(&mut stream) else {
                return;
            };
            let reply = match shared.admit(&request) {
                Some(Fault::Status(code)) => Reply::status(code),
                fault => shared.answer(&request).spoilt(fault),
            };
            drop(reply.write(&mut stream, request.method == "HEAD"));
        });
    }
}
