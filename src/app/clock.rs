//! The host's clock, for what is written down and for waiting; no safety decision
//! rests on it.

/// Seconds since 1970.
pub(crate) fn now_s() -> i64 {
    jiff::Timestamp::now().as_second()
}
