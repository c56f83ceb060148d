//! The host's clock, for what is written down and for waiting; no safety decision
//! rests on it.

/// Seconds since 1970.
pub(crate) fn now_s() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// Milliseconds since 1970, for what is only looked at.
pub(crate) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
