//! What time it is at Redis, estimated so that it errs to the early side.
//!
//! Some scripts must do nothing once their caller has given up: a request that waited in a stalled Redis would otherwise
//! take effect after its client was told 503. They are given the moment of giving up in Redis's own clock. Redis read that
//! clock before its answer reached us, so the reading plus the time since the answer came is never later than Redis's
//! present: a script may refuse a little early, and never runs late.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// Before the first reading Redis seems to live in the distant past.
const UNKNOWN: i64 = i64::MIN;

/// The clock of Redis relative to this process's monotonic one; clones share it.
#[derive(Clone)]
pub struct RedisTime {
    origin: Instant,
    /// Redis's milliseconds since the epoch at `origin`.
    at_origin: Arc<AtomicI64>,
}

impl Default for RedisTime {
    fn default() -> Self {
        Self { origin: Instant::now(), at_origin: Arc::new(AtomicI64::new(UNKNOWN)) }
    }
}

impl RedisTime {
    /// Takes note of a reading (milliseconds since the epoch) that just arrived. The latest one counts: after a fail-over
    /// another machine's clock applies.
    pub fn learn(&self, reading: i64) {
        self.at_origin.store(reading.saturating_sub(millis(self.origin.elapsed())), Ordering::Relaxed);
    }

    /// The moment `at` in Redis's clock (milliseconds since the epoch). Before the first reading it is always over, so that
    /// a script refuses, and its answer brings the reading.
    pub fn at(&self, at: Instant) -> i64 {
        self.at_origin.load(Ordering::Relaxed).saturating_add(millis(at.saturating_duration_since(self.origin)))
    }
}

/// As scripts take it: in milliseconds.
pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_passes_there_as_it_does_here_and_the_latest_reading_counts() {
        let time = RedisTime::default();
        assert!(time.at(Instant::now()) < 0);
        tokio::time::advance(Duration::from_secs(5)).await;
        time.learn(1_000_000);
        assert_eq!(time.at(Instant::now()), 1_000_000);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(time.at(Instant::now()), 1_002_000);
        time.learn(500);
        assert_eq!(time.at(Instant::now() + Duration::from_secs(1)), 1_500);
    }
}
