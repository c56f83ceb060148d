//! Kernel settings below `net.`, with the values of Debian 12's kernel.

use std::collections::BTreeMap;

/// Key and value; a key that is not here does not exist on these machines.
const DEFAULTS: &[(&str, &str)] = &[
    ("net.core.default_qdisc", "fq_codel"),
    ("net.core.netdev_max_backlog", "1000"),
    ("net.core.rmem_default", "212992"),
    ("net.core.rmem_max", "212992"),
    ("net.core.somaxconn", "4096"),
    ("net.core.wmem_default", "212992"),
    ("net.core.wmem_max", "212992"),
    ("net.ipv4.conf.all.forwarding", "0"),
    ("net.ipv4.conf.all.rp_filter", "2"),
    ("net.ipv4.conf.default.rp_filter", "2"),
    ("net.ipv4.ip_forward", "0"),
    ("net.ipv4.ip_local_port_range", "32768 60999"),
    ("net.ipv4.neigh.default.gc_thresh1", "128"),
    ("net.ipv4.neigh.default.gc_thresh2", "512"),
    ("net.ipv4.neigh.default.gc_thresh3", "1024"),
    ("net.ipv4.tcp_congestion_control", "cubic"),
    ("net.ipv4.tcp_fin_timeout", "60"),
    ("net.ipv4.tcp_keepalive_intvl", "75"),
    ("net.ipv4.tcp_keepalive_probes", "9"),
    ("net.ipv4.tcp_keepalive_time", "7200"),
    ("net.ipv4.tcp_max_syn_backlog", "512"),
    ("net.ipv4.tcp_max_tw_buckets", "65536"),
    ("net.ipv4.tcp_rmem", "4096 131072 6291456"),
    ("net.ipv4.tcp_slow_start_after_idle", "1"),
    ("net.ipv4.tcp_syncookies", "1"),
    ("net.ipv4.tcp_tw_reuse", "2"),
    ("net.ipv4.tcp_wmem", "4096 16384 4194304"),
    ("net.ipv6.conf.all.disable_ipv6", "0"),
    ("net.ipv6.conf.all.forwarding", "0"),
    ("net.netfilter.nf_conntrack_max", "262144"),
];

/// The settings of a machine that has just booted.
pub(crate) fn defaults() -> BTreeMap<String, String> {
    DEFAULTS
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// What a file of `/etc/sysctl.d` sets (sysctl.d(5)).
pub(crate) fn lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with(['#', ';']))
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim(), value.trim()))
}
