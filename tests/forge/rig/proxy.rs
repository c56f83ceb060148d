//! A TCP proxy in front of the Gitea that loses every second reply to a `POST`: the request arrives and is
//! carried out, and nobody hears of it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use anyhow::Result;

/// Dropping it closes the port; connections end with their peers.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    to: SocketAddr,
    posts: AtomicU32,
    lost: AtomicU32,
    closing: AtomicBool,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        // Wakes the accept.
        drop(TcpStream::connect(self.address));
    }
}

impl Proxy {
    pub(crate) fn start(to: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            to,
            posts: AtomicU32::new(0),
            lost: AtomicU32::new(0),
            closing: false.into(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.closing.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let shared = Arc::clone(&accepting);
                // A broken connection is what this is for.
                thread::spawn(move || drop(carry(&shared, stream)));
            }
        });
        Ok(Self { address, shared })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Replies that were lost.
    pub(crate) fn lost(&self) -> u32 {
        self.shared.lost.load(Ordering::SeqCst)
    }
}

/// One connection: pieces in turn. A request of trueup is one piece or two; the reply
/// to its first line decides.
fn carry(shared: &Shared, mut client: TcpStream) -> std::io::Result<()> {
    let server = TcpStream::connect(shared.to)?;
    let (mut to_server, mut from_client) = (server.try_clone()?, client.try_clone()?);
    let losing = Arc::new(AtomicBool::new(false));
    let requests = Arc::clone(&losing);
    thread::scope(|scope| {
        let forward = scope.spawn(move || -> std::io::Result<()> {
            let mut piece = [0_u8; 16 * 1024];
            loop {
                let size = from_client.read(&mut piece)?;
                if size == 0 {
                    to_server.shutdown(Shutdown::Write)?;
                    return Ok(());
                }
                if piece[..size].starts_with(b"POST ") {
                    // Every second one, the first one too.
                    let number = shared.posts.fetch_add(1, Ordering::SeqCst);
                    requests.store(number.is_multiple_of(2), Ordering::SeqCst);
                } else if piece[..size].starts_with(b"GET ") {
                    requests.store(false, Ordering::SeqCst);
                }
                to_server.write_all(&piece[..size])?;
            }
        });
        let mut server = server;
        let mut piece = [0_u8; 16 * 1024];
        loop {
            let size = server.read(&mut piece).unwrap_or(0);
            if size == 0 {
                break;
            }
            if losing.load(Ordering::SeqCst) {
                shared.lost.fetch_add(1, Ordering::SeqCst);
                break;
            }
            if client.write_all(&piece[..size]).is_err() {
                break;
            }
        }
        drop(client.shutdown(Shutdown::Both));
        drop(server.shutdown(Shutdown::Both));
        drop(forward.join());
    });
    Ok(())
}
