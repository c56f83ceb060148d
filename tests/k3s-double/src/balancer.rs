//! An agent's load balancer on 127.0.0.1:6444: TCP to the server that answered last, else to the next one.
//!
//! Saved addresses count only while `server:` is unchanged (agent/loadbalancer, checked).

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::{layout, log};

/// One attempt at one server.
const DIAL: Duration = Duration::from_secs(1);
/// Most servers that are kept.
const SERVERS_MAX: usize = 64;

/// The known servers, the preferred one first.
#[derive(Debug)]
pub(crate) struct Balancer {
    /// host:port of `server:`.
    configured: String,
    servers: RefCell<Vec<String>>,
    file: PathBuf,
}

impl Balancer {
    /// Knows `server:` and what an earlier start saved for the same.
    pub(crate) fn new(server_url: &str, file: PathBuf) -> Result<Rc<Self>> {
        let configured =
            host_and_port(server_url).ok_or_else(|| anyhow!("invalid server URL {server_url}"))?;
        let saved: Value = layout::read_if_there(&file)?
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        let mut servers = vec![configured.clone()];
        if saved.get("ServerURL").and_then(Value::as_str) == Some(server_url) {
            let addresses = saved.get("ServerAddresses").and_then(Value::as_array);
            servers.extend(
                addresses
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .map(str::to_owned),
            );
        }
        servers.sort();
        servers.dedup();
        let balancer = Self {
            configured,
            servers: RefCell::new(servers),
            file,
        };
        balancer.save(server_url)?;
        Ok(Rc::new(balancer))
    }

    fn save(&self, server_url: &str) -> Result<()> {
        let text =
            json!({"ServerURL": server_url, "ServerAddresses": *self.servers.borrow()}).to_string();
        layout::write(&self.file, text.as_bytes(), 0o600)
    }

    /// Takes over the servers that the cluster names; `server:` stays as the last resort.
    pub(crate) fn update(&self, server_url: &str, mut named: Vec<String>) {
        named.truncate(SERVERS_MAX);
        if named.is_empty() {
            return;
        }
        let first = self.servers.borrow().first().cloned();
        if !named.contains(&self.configured) {
            named.push(self.configured.clone());
        }
        if let Some(position) = named
            .iter()
            .position(|server| Some(server) == first.as_ref())
        {
            named.rotate_left(position);
        }
        let changed = {
            let mut servers = self.servers.borrow_mut();
            let (mut old, mut new) = (servers.clone(), named.clone());
            old.sort();
            new.sort();
            *servers = named;
            old != new
        };
        if changed {
            log::info(format!(
                "Updated load balancer server addresses -> {:?}",
                self.servers.borrow()
            ));
            if let Err(error) = self.save(server_url) {
                log::warn(format!("{error:#}"));
            }
        }
    }

    /// Opens the port and serves until the process ends.
    pub(crate) async fn serve(self: &Rc<Self>, port: u16) -> Result<()> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("listen tcp {address}"))?;
        log::info(format!(
            "Running load balancer {address} -> {:?}",
            self.servers.borrow()
        ));
        let balancer = Rc::clone(self);
        tokio::task::spawn_local(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let balancer = Rc::clone(&balancer);
                        tokio::task::spawn_local(async move { balancer.pass(stream).await });
                    }
                    Err(error) => {
                        log::warn(format!("accept on {address}: {error}"));
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        });
        Ok(())
    }

    async fn pass(&self, mut client: TcpStream) {
        let Some(mut server) = self.dial().await else {
            return;
        };
        drop(client.set_nodelay(true));
        // Either side may go away at any time.
        drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
    }

    async fn dial(&self) -> Option<TcpStream> {
        let servers = self.servers.borrow().clone();
        for server in servers {
            match tokio::time::timeout(DIAL, TcpStream::connect(&server)).await {
                Ok(Ok(stream)) => {
                    drop(stream.set_nodelay(true));
                    notice_death(&stream);
                    return Some(stream);
                }
                _ => self.put_last(&server),
            }
        }
        None
    }

    /// The next connection tries another server first.
    fn put_last(&self, server: &str) {
        let mut servers = self.servers.borrow_mut();
        if servers.first().map(String::as_str) == Some(server) {
            servers.rotate_left(1);
        }
    }
}

/// A machine without power sends nothing; the kernel must find that out within seconds, or watches hang.
fn notice_death(stream: &TcpStream) {
    use rustix::net::sockopt;
    // What the kernel refuses leaves only the slower way of finding out.
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, Duration::from_secs(2));
    let _ = sockopt::set_tcp_keepintvl(stream, Duration::from_secs(1));
    let _ = sockopt::set_tcp_keepcnt(stream, 3);
    let _ = sockopt::set_tcp_user_timeout(stream, 5000);
}

fn host_and_port(url: &str) -> Option<String> {
    let rest = url.strip_prefix("https://")?.trim_end_matches('/');
    let has_port = rest
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Some(if has_port {
        rest.to_owned()
    } else {
        format!("{rest}:443")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saved_servers_count_for_the_same_url_only() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("lb.json");
        let first = Balancer::new("https://a:6443", file.clone()).unwrap();
        first.update(
            "https://a:6443",
            vec!["a:6443".to_owned(), "b:6443".to_owned()],
        );
        let again = Balancer::new("https://a:6443", file.clone()).unwrap();
        assert_eq!(*again.servers.borrow(), ["a:6443", "b:6443"]);
        let other = Balancer::new("https://c:6443", file).unwrap();
        assert_eq!(*other.servers.borrow(), ["c:6443"]);
    }

    #[test]
    fn a_failed_server_is_tried_last() {
        let directory = tempfile::tempdir().unwrap();
        let balancer = Balancer::new("https://a:6443", directory.path().join("lb.json")).unwrap();
        balancer.update(
            "https://a:6443",
            vec!["a:6443".to_owned(), "b:6443".to_owned()],
        );
        balancer.put_last("a:6443");
        assert_eq!(*balancer.servers.borrow(), ["b:6443", "a:6443"]);
        balancer.update(
            "https://a:6443",
            vec!["a:6443".to_owned(), "b:6443".to_owned()],
        );
        assert_eq!(
            *balancer.servers.borrow(),
            ["b:6443", "a:6443"],
            "stays with the one that answered"
        );
    }
}
