//! A second receiver of the Gitea's hooks, which only notes when they come: its own
//! share of the time from a push to a word.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

/// A hook comes before or after ours, but it comes.
const LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct Witness {
    address: SocketAddr,
    seen: Receiver<Instant>,
}

impl Witness {
    /// Listens as long as the test runs.
    pub(crate) fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (saw, seen) = channel();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut stream = stream;
                let mut head = [0_u8; 1024];
                let read = stream.read(&mut head);
                let answer = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
                let gone = read.is_err() || saw.send(Instant::now()).is_err();
                if gone || stream.write_all(answer).is_err() {
                    return;
                }
            }
        });
        Ok(Self { address, seen })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// When the newest hook came; waits for one if none did since this was last asked.
    pub(crate) fn last(&self) -> Result<Instant> {
        let first = self.seen.recv_timeout(LIMIT)?;
        Ok(self.seen.try_iter().last().unwrap_or(first))
    }
}
