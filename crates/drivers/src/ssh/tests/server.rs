//! An SSH server within the test, that does what it is told: for what a real one
//! does too seldom. The real one is on the bed's machines.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{HashAlg, PrivateKey};
use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, Disconnect};
use secrecy::SecretString;

use crate::ssh::{AllowList, Hop, Identity, SshSettings, SshShell};

/// What is done with one command.
#[derive(Debug, Clone)]
pub(super) enum Act {
    /// Say this on stdout and end with this code.
    Say(&'static str, u32),
    /// Say this without end.
    Flood(&'static [u8]),
    /// Say this and close the channel without a code.
    Close(&'static str),
    /// End the connection.
    Disconnect,
    /// End with this code and read nothing of stdin.
    Deaf(u32),
}

/// A server and what happened to it.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) log: Arc<Mutex<Log>>,
    host_key: PrivateKey,
}

/// What is to be done, and what was.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// For each command; then `Say` nothing.
    pub(super) acts: VecDeque<Act>,
    /// So many sessions are refused first.
    pub(super) refuse: u32,
    pub(super) connections: u32,
    pub(super) commands: Vec<String>,
}

pub(super) fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

impl Server {
    /// A server with the host key of this seed.
    pub(super) async fn start(seed: u8, acts: impl IntoIterator<Item = Act>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Log {
            acts: acts.into_iter().collect(),
            ..Log::default()
        }));
        let config = Arc::new(Config {
            keys: vec![key(seed)],
            window_size: 64 * 1024,
            ..Config::default()
        });
        let served = Arc::clone(&log);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                served.lock().unwrap().connections += 1;
                let handler = Served {
                    log: Arc::clone(&served),
                };
                let running = russh::server::run_stream(Arc::clone(&config), stream, handler);
                tokio::spawn(async move {
                    if let Ok(session) = running.await {
                        drop(session.await);
                    }
                });
            }
        });
        Self {
            address,
            log,
            host_key: key(seed),
        }
    }

    pub(super) fn host_key(&self) -> String {
        self.host_key.public_key().to_openssh().unwrap()
    }

    /// A shell that pins this server's key.
    pub(super) fn shell(&self) -> SshShell {
        self.shell_pinning(&[self.host_key()])
    }

    pub(super) fn shell_pinning(&self, keys: &[String]) -> SshShell {
        let pem = key(9).to_openssh(LineEnding::LF).unwrap();
        let identity = Identity::parse(&SecretString::from(pem.as_str())).unwrap();
        let port = self.address.port();
        let hop = Hop::new("127.0.0.1", port, "root", keys, identity).unwrap();
        SshShell::new(SshSettings::direct(hop, Arc::new(AllowList::everywhere())))
    }

    pub(super) fn fingerprint(&self) -> String {
        self.host_key.fingerprint(HashAlg::Sha256).to_string()
    }
}

#[derive(Debug)]
struct Served {
    log: Arc<Mutex<Log>>,
}

impl Handler for Served {
    type Error = russh::Error;

    async fn auth_publickey(
        &mut self,
        _user: &str,
        _key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        _channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        let refused = {
            let mut log = self.log.lock().unwrap();
            let refused = log.refuse > 0;
            log.refuse = log.refuse.saturating_sub(1);
            refused
        };
        if refused {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
        } else {
            reply.accept().await;
        }
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let act = {
            let mut log = self.log.lock().unwrap();
            log.commands
                .push(String::from_utf8_lossy(data).into_owned());
            log.acts.pop_front().unwrap_or(Act::Say("", 0))
        };
        session.channel_success(channel)?;
        match act {
            Act::Say(text, code) => {
                session.data(channel, text.as_bytes())?;
                session.exit_status_request(channel, code)?;
                session.eof(channel)?;
                session.close(channel)?;
            }
            Act::Flood(text) => {
                let handle = session.handle();
                tokio::spawn(async move { while handle.data(channel, text).await.is_ok() {} });
            }
            Act::Close(text) => {
                session.data(channel, text.as_bytes())?;
                session.close(channel)?;
            }
            Act::Disconnect => session.disconnect(Disconnect::ByApplication, "", "")?,
            Act::Deaf(code) => {
                session.exit_status_request(channel, code)?;
                session.close(channel)?;
            }
        }
        Ok(())
    }
}
