//! Whether the peer still lives: we ping it, and what it does not answer with anything for long enough is dead. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// A protocol ping goes out this often: it makes the peer prove that it lives, and keeps middleboxes from forgetting us.
const PING_EVERY: Duration = Duration::from_secs(25);
/// A peer of which nothing was heard for so long is gone. Two pings fit in.
const SILENCE: Duration = Duration::from_mins(1);

/// The heartbeat of one connection.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    heard_at: Instant,
    ping_at: Instant,
}

impl Heartbeat {
    pub(crate) fn new(now: Instant) -> Self {
        Self { heard_at: now, ping_at: now + PING_EVERY }
    }

    /// The peer said something, whatever it was.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.heard_at = now;
    }

    /// When to look again.
    pub(crate) fn deadline(&self) -> Instant {
        self.ping_at.min(self.heard_at + SILENCE)
    }

    /// Whether the peer has been silent for too long.
    pub(crate) fn is_dead(&self, now: Instant) -> bool {
        now >= self.heard_at + SILENCE
    }

    /// Whether to send a ping now; says so once for each.
    pub(crate) fn ping_due(&mut self, now: Instant) -> bool {
        let due = now >= self.ping_at;
        if due {
            self.ping_at = now + PING_EVERY;
        }
        due
    }
}
