//! A run's network: one bridge with a subnet of its own, and per machine one
//! network namespace with one veth. Nothing outside the run is reachable but the
//! host itself, at the bridge's address.

use std::{net::Ipv4Addr, path::PathBuf};

use anyhow::{Result, bail};

use crate::{
    run::{Run, lock_runs},
    shell::{run, run_words},
    sweep,
};

/// First machine's last octet; the bridge is `.1`.
const FIRST_MACHINE_OCTET: u8 = 11;
/// Subnets are taken from 10.201.0.0/24 to 10.230.255.0/24, which few sites use.
const SECOND_OCTETS: std::ops::RangeInclusive<u8> = 201..=230;

/// The bridge of a run.
#[derive(Debug, Clone)]
pub struct Bridge {
    name: String,
    /// The first two bytes that differ between runs, for addresses on the link.
    mark: [u8; 2],
    subnet: [u8; 3],
}

impl Bridge {
    /// Makes the bridge on a subnet that no interface or route of the host has.
    pub fn create(owner: &Run) -> Result<Self> {
        let name = format!("tb{}", owner.id());
        owner.ledger().link(&name)?;
        let number = u32::from_str_radix(owner.id(), 16)?;
        let mark = [number.to_be_bytes()[2], number.to_be_bytes()[3]];
        // Choosing and taking a subnet is one act for all test processes.
        let _lock = lock_runs()?;
        let subnet = free_subnet(number)?;
        let bridge = Self { name, mark, subnet };
        let (name, link_address) = (&bridge.name, bridge.link_address(1));
        // The address is set: a bridge without one takes its ports' and changes it when they go.
        run_words(&format!(
            "ip link add {name} address {link_address} type bridge stp_state 0 forward_delay 0"
        ))?;
        run_words(&format!("ip addr add {}/24 dev {name}", bridge.address()))?;
        run_words(&format!("ip link set {name} up"))?;
        Ok(bridge)
    }

    /// The host's address on the bridge.
    pub fn address(&self) -> Ipv4Addr {
        self.at(1)
    }

    /// The address of the machine with this index, from 0.
    pub fn machine_address(&self, index: u8) -> Ipv4Addr {
        self.at(FIRST_MACHINE_OCTET + index)
    }

    fn at(&self, octet: u8) -> Ipv4Addr {
        let [a, b, c] = self.subnet;
        Ipv4Addr::new(a, b, c, octet)
    }

    fn link_address(&self, octet: u8) -> String {
        let [high, low] = self.mark;
        format!("02:54:42:{high:02x}:{low:02x}:{octet:02x}")
    }
}

/// The network side of one machine.
#[derive(Debug, Clone)]
pub struct Port {
    bridge: Bridge,
    octet: u8,
    namespace: String,
    host_link: String,
    forwards: bool,
}

impl Port {
    /// Records the names of the machine's namespace and link; [`Port::plug`] makes them.
    pub fn reserve(
        owner: &Run,
        bridge: &Bridge,
        index: u8,
        machine: &str,
        forwards: bool,
    ) -> Result<Self> {
        let namespace = format!("trueup-{}-{machine}", owner.id());
        let host_link = format!("tv{}-{index}", owner.id());
        owner.ledger().namespace(&namespace)?;
        owner.ledger().link(&host_link)?;
        Ok(Self {
            bridge: bridge.clone(),
            octet: FIRST_MACHINE_OCTET + index,
            namespace,
            host_link,
            forwards,
        })
    }

    pub fn address(&self) -> Ipv4Addr {
        self.bridge.at(self.octet)
    }

    pub fn namespace_path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.namespace)
    }

    /// Makes the namespace and its link, as power does to a network card.
    pub fn plug(&self) -> Result<()> {
        let Self {
            namespace,
            host_link,
            bridge,
            ..
        } = self;
        let link_address = bridge.link_address(self.octet);
        run_words(&format!("ip netns add {namespace}"))?;
        run_words(&format!(
            "ip link add {host_link} type veth peer name eth0 netns {namespace} address {link_address}"
        ))?;
        run_words(&format!(
            "ip link set {host_link} master {} up",
            bridge.name
        ))?;
        run_words(&format!("ip -n {namespace} link set lo up"))?;
        run_words(&format!(
            "ip -n {namespace} addr add {}/24 dev eth0",
            self.address()
        ))?;
        run_words(&format!("ip -n {namespace} link set eth0 up"))?;
        // Leads nowhere but is wanted: k3s finds its own address by the default route.
        run_words(&format!(
            "ip -n {namespace} route add default via {}",
            bridge.address()
        ))?;
        if self.forwards {
            run(&[
                "ip",
                "netns",
                "exec",
                namespace,
                "sh",
                "-c",
                "echo 1 >/proc/sys/net/ipv4/ip_forward",
            ])?;
        }
        Ok(())
    }

    /// Removes them: what was in flight is lost, and no socket of the machine says goodbye.
    pub fn unplug(&self) -> Result<()> {
        sweep::remove_link(&self.host_link)?;
        if self.namespace_path().exists() {
            run(&["ip", "netns", "delete", &self.namespace])?;
        }
        Ok(())
    }

    /// Takes the cable out.
    pub fn down(&self) -> Result<()> {
        run(&["ip", "link", "set", &self.host_link, "down"]).map(drop)
    }

    /// Puts it back.
    pub fn up(&self) -> Result<()> {
        run(&["ip", "link", "set", &self.host_link, "up"]).map(drop)
    }
}

fn free_subnet(start: u32) -> Result<[u8; 3]> {
    let taken = run_words("ip -o -4 addr show")? + &run_words("ip -4 route show table all")?;
    let span = u32::from(SECOND_OCTETS.end() - SECOND_OCTETS.start()) + 1;
    for step in 0..span * 256 {
        let [_, _, second, third] = ((start + step) % (span * 256)).to_be_bytes();
        let subnet = [10, SECOND_OCTETS.start() + second, third];
        let prefix = format!("10.{}.{}.", subnet[1], subnet[2]);
        if !taken.contains(&format!(" {prefix}")) {
            return Ok(subnet);
        }
    }
    bail!(
        "no free /24 between 10.{}.0.0 and 10.{}.255.0",
        SECOND_OCTETS.start(),
        SECOND_OCTETS.end()
    )
}
