//! Whether the peer still lives: we ping it, and what it does not answer with anything for long enough is dead. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// A protocol ping goes out this often: it makes the peer prove that it lives, and keeps middleboxes from forgetting us.
const PING_EVERY: Duration = Duration::from_secs(25);
/// A peer of which nothing was heard for so long is gone. Two pings fit in.
const SILENCE: Duration = Duration::from_mins(1);
/// Whoever looks so much too late did not get to run, and may not have read yet what the peer has said meanwhile: of very many
/// sockets only so many are read at once.
const TOO_LATE: Duration = Duration::from_secs(1);
/// How long that may take.
const READING: Duration = Duration::from_secs(5);

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
    pub(crate) fn check_dead(&mut self, now: Instant) -> bool {
        let end = self.heard_at + SILENCE;
        if now >= end + TOO_LATE {
            self.heard_at = now + READING - SILENCE;
            return false;
        }
        now >= end
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_looks_too_late_looks_again() {
        let now = Instant::now();
        let mut heartbeat = Heartbeat::new(now);
        let late = now + SILENCE * 2;
        assert!(!heartbeat.check_dead(late), "what the peer has said may not have been read");
        assert!(heartbeat.deadline() <= late + READING);
        assert!(!heartbeat.check_dead(late + READING / 2));
        assert!(heartbeat.check_dead(late + READING));
    }
}
