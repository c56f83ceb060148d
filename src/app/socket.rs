//! The socket of a running loop: one line of JSON asks, one line answers.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use super::office::{Answer, Request};
use super::settings::Settings;
use crate::cli::Failure;
use crate::cli::exit::Exit;

/// A request is a line of a few hundred bytes.
const REQUEST_BYTES_MAX: u64 = 64 * 1024;
/// A plan of a large fleet is a few megabytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// A plan looks at every machine.
const ANSWER_DEADLINE: Duration = Duration::from_secs(120);
/// A loop that is there accepts at once.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// Connections that are served at the same time; more wait.
const CLIENTS_MAX: usize = 16;

/// Where the socket lies.
pub fn path(settings: &Settings) -> Utf8PathBuf {
    settings.state_dir.join("trueup.sock")
}

/// What goes over the wire.
#[derive(Debug, Serialize, Deserialize)]
struct Wire {
    answer: Option<Answer>,
    code: String,
    message: String,
    next: Option<String>,
    exit: u8,
}

/// A connection to a running loop.
#[derive(Debug)]
pub struct Client {
    path: Utf8PathBuf,
    stream: UnixStream,
}

impl Client {
    /// Connect, if a loop listens.
    pub async fn connect(path: &Utf8Path) -> Option<Self> {
        let connect = UnixStream::connect(path.as_std_path());
        let stream = tokio::time::timeout(CONNECT_DEADLINE, connect)
            .await
            .ok()?
            .ok()?;
        Some(Self {
            path: path.to_owned(),
            stream,
        })
    }

    /// Who is at the other end.
    pub fn who(&self) -> String {
        let pid = self.stream.peer_cred().ok().and_then(|cred| cred.pid());
        match pid {
            Some(pid) => format!("the loop of process {pid}"),
            None => format!("the loop at {}", self.path),
        }
    }

    /// Ask.
    pub async fn ask(mut self, request: &Request) -> Result<Answer, Failure> {
        let broken =
            |why: String| Failure::new("TU0912", format!("the loop does not answer: {why}"));
        let mut line = serde_json::to_vec(request).map_err(|error| broken(error.to_string()))?;
        line.push(b'\n');
        let work = async {
            self.stream.write_all(&line).await?;
            let mut text = Vec::new();
            let mut reader = BufReader::new(&mut self.stream).take(ANSWER_BYTES_MAX);
            reader.read_until(b'\n', &mut text).await?;
            Ok::<_, std::io::Error>(text)
        };
        let text = tokio::time::timeout(ANSWER_DEADLINE, work)
            .await
            .map_err(|_| broken(format!("not within {} s", ANSWER_DEADLINE.as_secs())))?
            .map_err(|error| broken(error.to_string()))?;
        let wire: Wire =
            serde_json::from_slice(&text).map_err(|error| broken(error.to_string()))?;
        match wire.answer {
            Some(answer) => Ok(answer),
            None => Err(Failure {
                code: "TU0913",
                message: format!("{} [{}]", wire.message, wire.code),
                next: wire.next,
                exit: Exit::of(wire.exit),
            }),
        }
    }
}

/// A request with its author, and where the answer goes.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) request: Request,
    pub(crate) author: String,
    pub(crate) answer: oneshot::Sender<Result<Answer, Failure>>,
}

/// Listen; requests come out of the channel. A socket that a dead loop left is
/// replaced: the lock on the state directory says that nobody else listens.
pub(crate) fn listen(settings: &Settings) -> std::io::Result<mpsc::Receiver<Asked>> {
    let path = path(settings);
    match std::fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path.as_std_path())?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660))?;
    if let Some(group) = &settings.socket_group {
        let gid = group_id(group).ok_or_else(|| {
            std::io::Error::other(format!("there is no group {group} (socketGroup)"))
        })?;
        std::os::unix::fs::chown(&path, None, Some(gid))?;
    }
    let (asked, receiver) = mpsc::channel(CLIENTS_MAX);
    let slots = std::sync::Arc::new(tokio::sync::Semaphore::new(CLIENTS_MAX));
    tokio::spawn(async move {
        loop {
            let Ok(slot) = std::sync::Arc::clone(&slots).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let asked = asked.clone();
                    tokio::spawn(async move {
                        let served =
                            tokio::time::timeout(ANSWER_DEADLINE, serve(stream, &asked)).await;
                        if let Ok(Err(error)) = served {
                            tracing::debug!(%error, "a client went away");
                        }
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the socket does not accept");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    });
    Ok(receiver)
}

async fn serve(mut stream: UnixStream, asked: &mpsc::Sender<Asked>) -> std::io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    let mut line = Vec::new();
    BufReader::new(&mut stream)
        .take(REQUEST_BYTES_MAX)
        .read_until(b'\n', &mut line)
        .await?;
    let result = match serde_json::from_slice::<Request>(&line) {
        Ok(request) => {
            let (answer, receiver) = oneshot::channel();
            let question = Asked {
                request,
                author: author_of(uid),
                answer,
            };
            if asked.send(question).await.is_err() {
                Err(Failure::new("TU0912", "the loop is shutting down"))
            } else {
                receiver
                    .await
                    .unwrap_or_else(|_| Err(Failure::new("TU0912", "the loop is shutting down")))
            }
        }
        Err(error) => Err(Failure::new(
            "TU0906",
            format!("the request is not understood: {error}"),
        )),
    };
    let wire = match result {
        Ok(answer) => Wire {
            answer: Some(answer),
            code: String::new(),
            message: String::new(),
            next: None,
            exit: 0,
        },
        Err(failure) => Wire {
            answer: None,
            code: failure.code.to_owned(),
            message: failure.message,
            next: failure.next,
            exit: failure.exit.code(),
        },
    };
    let mut bytes = serde_json::to_vec(&wire).map_err(std::io::Error::other)?;
    bytes.push(b'\n');
    stream.write_all(&bytes).await?;
    stream.shutdown().await
}

/// A user's name for the record: what the kernel said (SO_PEERCRED), never the client.
pub(crate) fn author_of(uid: u32) -> String {
    lookup("/etc/passwd", uid).unwrap_or_else(|| format!("uid {uid}"))
}

fn lookup(file: &str, id: u32) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    })
}

fn group_id(name: &str) -> Option<u32> {
    let text = std::fs::read_to_string("/etc/group").ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        fields.nth(1)?.parse().ok()
    })
}
