//! etcd as its members tell it.

/// Members as one fresh look saw them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdFacts {
    /// Members in the order of their names.
    pub members: Vec<EtcdMember>,
    /// Raised alarms, as `member-name: NOSPACE`.
    pub alarms: Vec<String>,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdMember {
    /// Id in hex, as etcdctl prints it.
    pub id: String,
    /// k3s names members `<node>-<8 hex>`; empty until the member has started.
    pub name: String,
    /// Peer URLs.
    pub peer_urls: Vec<String>,
    /// A learner has no vote.
    pub learner: bool,
    /// It answered Status itself within the deadline and knows a leader.
    pub healthy: bool,
    /// It is the leader.
    pub leader: bool,
}

impl EtcdFacts {
    /// Voting members.
    pub fn voters(&self) -> usize {
        self.members.iter().filter(|member| !member.learner).count()
    }
    /// Voting members that answered and know a leader.
    pub fn healthy_voters(&self) -> usize {
        self.members
            .iter()
            .filter(|member| !member.learner && member.healthy)
            .count()
    }
    /// Healthy voters beyond those that a quorum needs; negative: no quorum.
    pub fn margin(&self) -> i64 {
        let healthy = i64::try_from(self.healthy_voters()).unwrap_or(i64::MAX);
        let quorum = i64::try_from(self.voters() / 2 + 1).unwrap_or(i64::MAX);
        healthy - quorum
    }
}
