//! The wall clock: the one place that reads it.
//!
//! Only for what leaves the process as a time (claims, payloads, logs). Whatever two replicas must agree on is timed by
//! Redis, and whatever measures a duration uses [`std::time::Instant`].

mod check;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use self::check::{ClockCheck, Lead, now};

/// Time since 1970-01-01 UTC; zero on a machine whose clock stands before that.
#[expect(clippy::disallowed_methods, reason = "this is the place that the lint sends everybody to")]
pub fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Seconds since 1970-01-01 UTC, as in the `iat` and `exp` claims.
pub fn unix_seconds() -> u64 {
    since_epoch().as_secs()
}

/// Milliseconds since 1970-01-01 UTC, as in the payloads of the WebSocket protocol.
pub fn unix_millis() -> u64 {
    u64::try_from(since_epoch().as_millis()).unwrap_or(u64::MAX)
}
