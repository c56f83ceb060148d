//! The values that must be equal on all servers, compared when a server joins.
//!
//! As k3s compares them (daemons/config/types.go CriticalControlArgs, cluster/bootstrap.go, checked): agent-token and
//! `disable: servicelb` are not among them, and CIDRs and DNS addresses appear under the path of the Go value.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::settings::Settings;

/// The compared values, in the order in which they are reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Critical {
    pub(crate) cluster_cidr: Vec<String>,
    pub(crate) service_cidr: Vec<String>,
    pub(crate) cluster_dns: Vec<String>,
    pub(crate) plain: Vec<(String, String)>,
}

/// Name and default of the values that appear under their own name.
const PLAIN: &[(&str, &str)] = &[
    ("cluster-domain", "cluster.local"),
    ("disable-cloud-controller", "false"),
    ("disable-helm-controller", "false"),
    ("disable-network-policy", "false"),
    ("secrets-encryption", "false"),
    ("secrets-encryption-provider", "aescbc"),
    ("embedded-registry", "false"),
    ("flannel-backend", "vxlan"),
    ("flannel-ipv6-masq", "false"),
    ("flannel-external-ip", "false"),
    ("egress-selector-mode", "agent"),
    ("supervisor-metrics", "false"),
];

impl Critical {
    /// The values of this server, with k3s' defaults.
    pub(crate) fn of(settings: &Settings) -> Self {
        let list = |name: &str, default: &str| {
            let given = settings.split_list(name);
            if given.is_empty() {
                vec![default.to_owned()]
            } else {
                given
            }
        };
        let plain = PLAIN
            .iter()
            .map(|&(name, default)| {
                (
                    name.to_owned(),
                    settings.text(name).unwrap_or(default).to_owned(),
                )
            })
            .collect();
        Self {
            cluster_cidr: list("cluster-cidr", "10.42.0.0/16"),
            service_cidr: list("service-cidr", "10.43.0.0/16"),
            cluster_dns: list("cluster-dns", "10.43.0.10"),
            plain,
        }
    }

    /// The names of the values that differ; empty when the server may join.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let mut names = Vec::new();
        names.extend(cidr_difference(
            "ClusterIPRanges",
            &self.cluster_cidr,
            &other.cluster_cidr,
        ));
        names.extend(cidr_difference(
            "ServiceIPRanges",
            &self.service_cidr,
            &other.service_cidr,
        ));
        names.extend(dns_difference(&self.cluster_dns, &other.cluster_dns));
        for (name, value) in &self.plain {
            let theirs = other
                .plain
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value);
            if theirs != Some(value) {
                names.push(name.clone());
            }
        }
        names
    }
}

/// The first differing byte; Go keeps an IPv4 address in the last four of sixteen bytes.
fn byte_of(mine: &str, theirs: &str) -> Option<usize> {
    let bytes = |text: &str| -> Option<[u8; 16]> {
        Some(match text.parse::<IpAddr>().ok()? {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        })
    };
    let (mine, theirs) = (bytes(mine)?, bytes(theirs)?);
    mine.iter().zip(theirs).position(|(a, b)| *a != b)
}

fn cidr_difference(field: &str, mine: &[String], theirs: &[String]) -> Option<String> {
    let index = mine.iter().zip(theirs).position(|(a, b)| a != b);
    let Some(index) = index else {
        return (mine.len() != theirs.len()).then(|| field.to_owned());
    };
    let address = |list: &[String]| {
        list.get(index)
            .and_then(|c| c.split('/').next())
            .unwrap_or_default()
            .to_owned()
    };
    Some(match byte_of(&address(mine), &address(theirs)) {
        Some(byte) => format!("{field}.slice[{index}].IP.slice[{byte}]"),
        None => format!("{field}.slice[{index}].Mask.slice[0]"),
    })
}

fn dns_difference(mine: &[String], theirs: &[String]) -> Option<String> {
    let index = mine.iter().zip(theirs).position(|(a, b)| a != b);
    match index {
        Some(index) => {
            let (a, b) = (mine.get(index)?, theirs.get(index)?);
            Some(format!(
                "ClusterDNSs.slice[{index}].slice[{}]",
                byte_of(a, b).unwrap_or_default()
            ))
        }
        None => (mine.len() != theirs.len()).then(|| "ClusterDNSs".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Role;

    fn of(arguments: &[&str]) -> Critical {
        let mut arguments: Vec<String> = arguments.iter().map(|&text| text.to_owned()).collect();
        arguments.push("--config=/nonexistent/config.yaml".to_owned());
        Critical::of(
            &Settings::load(Role::Server, &arguments, &std::collections::BTreeMap::new()).unwrap(),
        )
    }

    #[test]
    fn what_differs_is_named_and_what_is_not_compared_is_not() {
        let cases: &[(&[&str], &[&str])] = &[
            (&[], &[]),
            (&["--flannel-backend=none"], &["flannel-backend"]),
            (
                &["--cluster-cidr=10.52.0.0/16"],
                &["ClusterIPRanges.slice[0].IP.slice[13]"],
            ),
            (
                &["--service-cidr=11.43.0.0/16"],
                &["ServiceIPRanges.slice[0].IP.slice[12]"],
            ),
            (
                &["--cluster-dns=10.43.0.11"],
                &["ClusterDNSs.slice[0].slice[15]"],
            ),
            (
                &["--secrets-encryption", "--supervisor-metrics"],
                &["secrets-encryption", "supervisor-metrics"],
            ),
            (
                &["--agent-token=other", "--disable=servicelb", "--tls-san=a"],
                &[],
            ),
        ];
        for (arguments, expected) in cases {
            assert_eq!(
                of(&[]).differences(&of(arguments)),
                *expected,
                "{arguments:?}"
            );
        }
    }
}
