//! What a start learns about the machine: node name and address.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use anyhow::{Context as _, Result, anyhow};

use crate::certs::Identity;
use crate::layout;
use crate::settings::Settings;
use crate::token::random_hex;

/// Node name and address of this start.
pub(crate) fn identity(settings: &Settings) -> Result<Identity> {
    let hostname =
        std::fs::read_to_string("/proc/sys/kernel/hostname").context("read the host name")?;
    let base = settings.text("node-name").unwrap_or(hostname.trim());
    let id = if settings.switch("with-node-id") {
        Some(node_id()?)
    } else {
        None
    };
    let node_ip = match settings.split_list("node-ip").first() {
        Some(address) => address
            .parse()
            .with_context(|| format!("invalid node-ip {address}"))?,
        None => {
            own_address().ok_or_else(|| anyhow!("no default routes found and no other address"))?
        }
    };
    Ok(Identity {
        node_name: node_name(base, id.as_deref()),
        node_ip,
    })
}

fn node_name(base: &str, id: Option<&str>) -> String {
    let base = base.to_lowercase();
    id.map_or_else(|| base.clone(), |id| format!("{base}-{id}"))
}

/// The suffix of `with-node-id`, kept in /etc/rancher/node/id.
fn node_id() -> Result<String> {
    let path = std::path::Path::new("/etc/rancher/node/id");
    if let Some(id) = layout::read_if_there(path)? {
        return Ok(id.trim().to_owned());
    }
    layout::make_open_dir(std::path::Path::new("/etc/rancher/node"))?;
    let id = random_hex(4)?;
    layout::write(path, format!("{id}\n").as_bytes(), 0o600)?;
    Ok(id)
}

/// The address of the default route; connecting a UDP socket sends nothing. Without such a route, the first address
/// of the machine that is not loopback.
fn own_address() -> Option<IpAddr> {
    let by_route = || -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        Ok(socket.local_addr()?.ip())
    };
    by_route()
        .ok()
        .filter(|address| !address.is_loopback() && !address.is_unspecified())
        .or_else(|| {
            let table = std::fs::read_to_string("/proc/net/fib_trie").ok()?;
            first_local(&table).map(IpAddr::V4)
        })
}

/// The first host address in the kernel's table that is not loopback.
fn first_local(table: &str) -> Option<Ipv4Addr> {
    let mut last = None;
    for line in table.lines() {
        if let Some(address) = line.trim().strip_prefix("|-- ") {
            last = address.parse::<Ipv4Addr>().ok();
        } else if line.contains("/32 host LOCAL")
            && let Some(address) = last.filter(|address| !address.is_loopback())
        {
            return Some(address);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_case() {
        assert_eq!(node_name("Web-1", None), "web-1");
        assert_eq!(node_name("Web-1", Some("0a1b2c3d")), "web-1-0a1b2c3d");
    }

    #[test]
    fn the_first_local_address() {
        let table = "Main:\n  +-- 0.0.0.0/0 3 0 4\n     |-- 10.9.0.0\n        /24 link UNICAST\n     |-- 10.9.0.7\n        /32 host LOCAL\n     |-- 127.0.0.1\n        /32 host LOCAL\n";
        assert_eq!(first_local(table), Some(Ipv4Addr::new(10, 9, 0, 7)));
        assert_eq!(first_local(""), None);
    }
}
