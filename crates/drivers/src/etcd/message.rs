//! The few messages of etcd's API that are used, by hand: etcd-client needs `protoc`
//! to build. Numbers from `rpc.proto` of etcd 3.6; fields that are not read are left
//! out, as protobuf allows.

/// `ResponseHeader`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Header {
    /// The member that answered.
    #[prost(uint64, tag = "2")]
    pub(super) member_id: u64,
}

/// `MemberListRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct MemberListRequest {
    /// Only if a quorum agrees.
    #[prost(bool, tag = "1")]
    pub(super) linearizable: bool,
}

/// `MemberListResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct MemberListResponse {
    #[prost(message, repeated, tag = "2")]
    pub(super) members: Vec<Member>,
}

/// `Member`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Member {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    /// Empty until the member has started.
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(string, repeated, tag = "3")]
    pub(super) peer_urls: Vec<String>,
    #[prost(bool, tag = "5")]
    pub(super) is_learner: bool,
}

/// `StatusRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StatusRequest {}

/// `StatusResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<Header>,
    /// The leader that it knows; 0: none.
    #[prost(uint64, tag = "4")]
    pub(super) leader: u64,
}

/// `AlarmRequest`; all zero asks for every alarm of every member.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AlarmRequest {}

/// `AlarmResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AlarmResponse {
    #[prost(message, repeated, tag = "2")]
    pub(super) alarms: Vec<Alarm>,
}

/// `AlarmMember`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Alarm {
    #[prost(uint64, tag = "1")]
    pub(super) member_id: u64,
    #[prost(int32, tag = "2")]
    pub(super) kind: i32,
}

impl Alarm {
    /// As etcdctl prints it.
    pub(super) fn name(&self) -> String {
        match self.kind {
            0 => "NONE".to_owned(),
            1 => "NOSPACE".to_owned(),
            2 => "CORRUPT".to_owned(),
            other => format!("ALARM {other}"),
        }
    }
}
