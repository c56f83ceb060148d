//! `allow.addresses`: the host configuration's word on where anything may be sent,
//! whatever the repository says.

use std::net::IpAddr;

/// An entry that is neither an address, a network nor a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} in allow.addresses is neither an IP address, a network like 10.0.0.0/8, nor a DNS name"
)]
pub struct BadAllow(pub String);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Network { address: IpAddr, bits: u8 },
    Name(String),
}

/// Where anything may be sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList {
    /// `None`: everywhere.
    entries: Option<Vec<Entry>>,
}

impl AllowList {
    /// No bound: the host configuration has no `allow.addresses`.
    pub fn everywhere() -> Self {
        Self { entries: None }
    }

    /// Reads entries: IP addresses, networks, DNS names (`*.example.org` for all
    /// names below). An empty list allows nothing.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, BadAllow> {
        let entries = entries
            .into_iter()
            .map(|text| entry(text).ok_or_else(|| BadAllow(text.to_owned())))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            entries: Some(entries),
        })
    }

    /// Whether this name is allowed as a name: then whatever it resolves to is.
    pub fn names(&self, name: &str) -> bool {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        match &self.entries {
            None => true,
            Some(entries) => entries.iter().any(|entry| match entry {
                Entry::Network { .. } => false,
                Entry::Name(allowed) => match allowed.strip_prefix('*') {
                    Some(suffix) => name.len() > suffix.len() && name.ends_with(suffix),
                    None => name == *allowed,
                },
            }),
        }
    }

    /// Whether this address is allowed.
    pub fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        match &self.entries {
            None => true,
            Some(entries) => entries.iter().any(|entry| match entry {
                Entry::Network {
                    address: network,
                    bits,
                } => within(address, *network, *bits),
                Entry::Name(_) => false,
            }),
        }
    }
}

fn entry(text: &str) -> Option<Entry> {
    if let Ok(address) = text.parse::<IpAddr>() {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        return Some(Entry::Network { address, bits });
    }
    if let Some((address, bits)) = text.split_once('/') {
        let address: IpAddr = address.parse().ok()?;
        let bits: u8 = bits.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        return (bits <= most).then_some(Entry::Network { address, bits });
    }
    let name = text.trim_end_matches('.').to_ascii_lowercase();
    let plain = name.strip_prefix("*.").unwrap_or(&name);
    let ok = !plain.is_empty()
        && plain.split('.').all(|label| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        });
    // What looks like an address and is none is a mistake, not a name.
    let has_letter = plain.bytes().any(|b| b.is_ascii_alphabetic());
    (ok && has_letter).then_some(Entry::Name(name))
}

fn within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let shift = 32_u32.saturating_sub(bits.into());
            let mask = u32::MAX.checked_shl(shift).unwrap_or(0);
            address.to_bits() & mask == network.to_bits() & mask
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let shift = 128_u32.saturating_sub(bits.into());
            let mask = u128::MAX.checked_shl(shift).unwrap_or(0);
            address.to_bits() & mask == network.to_bits() & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names() {
        let list = AllowList::parse([
            "10.1.0.0/16",
            "192.0.2.7",
            "fd00::/8",
            "*.lab.example",
            "edge",
        ])
        .unwrap();
        for (address, want) in [
            ("10.1.2.3", true),
            ("10.2.2.3", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("::ffff:10.1.0.1", true),
            ("fd12::1", true),
            ("fe80::1", false),
        ] {
            assert_eq!(list.allows(address.parse().unwrap()), want, "{address}");
        }
        for (name, want) in [
            ("a.lab.example", true),
            ("A.Lab.Example.", true),
            ("lab.example", false),
            ("xlab.example", false),
            ("edge", true),
            ("edge2", false),
        ] {
            assert_eq!(list.names(name), want, "{name}");
        }
        assert!(
            AllowList::parse(["0.0.0.0/0"])
                .unwrap()
                .allows([8, 8, 8, 8].into())
        );
        assert!(!AllowList::parse([]).unwrap().allows([8, 8, 8, 8].into()));
        assert!(AllowList::everywhere().names("anything"));
    }

    #[test]
    fn mistakes_are_refused() {
        for bad in [
            "",
            "10.0.0.0/33",
            "10.0.0/8",
            "10.0.0.1.2",
            "a b",
            "/8",
            "*.",
        ] {
            assert_eq!(
                AllowList::parse([bad]),
                Err(BadAllow(bad.to_owned())),
                "{bad}"
            );
        }
    }
}
