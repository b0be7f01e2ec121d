//! The end of a token, as its socket lives through it: a warning, the expiry, a grace in which a new token mends
//! everything, and the end. Pure: it is told what time it is.

use std::time::Duration;

use tokio::time::Instant;

/// When a socket hears of the end of its token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenPolicy {
    /// The warning comes this long before the expiry; zero: no warning.
    pub(crate) warning: Duration,
    /// The socket is closed this long after the expiry.
    pub(crate) grace: Duration,
}

/// What is due. Each is reported once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenEvent {
    /// The token will expire soon.
    Expiring,
    /// The token has expired.
    Expired,
    /// No other token came within the grace.
    GraceOver,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Fresh,
    Warned,
    Expired,
    Over,
}

/// The clock of one socket's token.
#[derive(Debug)]
pub(crate) struct TokenClock {
    policy: TokenPolicy,
    expires_at: Instant,
    next: Instant,
    phase: Phase,
}

impl TokenClock {
    /// The clock of a token that has `left` to live.
    pub(crate) fn start(policy: TokenPolicy, now: Instant, left: Duration) -> Self {
        let expires_at = now + left;
        if policy.warning.is_zero() {
            return Self { policy, expires_at, next: expires_at, phase: Phase::Warned };
        }
        Self { policy, expires_at, next: now + left.saturating_sub(policy.warning), phase: Phase::Fresh }
    }

    /// Starts over with another token.
    pub(crate) fn renew(&mut self, now: Instant, left: Duration) {
        *self = Self::start(self.policy, now, left);
    }

    /// When to ask again; in the far future there may be nothing to say.
    pub(crate) fn deadline(&self) -> Instant {
        self.next
    }

    /// Whether the token's expiry has been reported.
    pub(crate) fn is_expired(&self) -> bool {
        matches!(self.phase, Phase::Expired | Phase::Over)
    }

    /// The next thing that is due, if any is.
    pub(crate) fn tick(&mut self, now: Instant) -> Option<TokenEvent> {
        if now < self.next {
            return None;
        }
        let event;
        (self.phase, self.next, event) = match self.phase {
            Phase::Fresh => (Phase::Warned, self.expires_at, TokenEvent::Expiring),
            Phase::Warned => (Phase::Expired, self.expires_at + self.policy.grace, TokenEvent::Expired),
            Phase::Expired => (Phase::Over, self.next, TokenEvent::GraceOver),
            Phase::Over => return None,
        };
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: TokenPolicy = TokenPolicy { warning: Duration::from_mins(2), grace: Duration::from_secs(30) };

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// What happens, and after how many seconds, when the clock is asked exactly when it wants to be.
    fn story(clock: &mut TokenClock, start: Instant) -> Vec<(u64, TokenEvent)> {
        let mut story = Vec::new();
        let mut now = start;
        while let Some(event) = clock.tick(now) {
            story.push((now.duration_since(start).as_secs(), event));
            now = now.max(clock.deadline());
        }
        story
    }

    fn first_due(clock: &TokenClock, start: Instant) -> u64 {
        clock.deadline().duration_since(start).as_secs()
    }

    #[test]
    fn it_warns_once_then_expires_then_the_grace_is_over() {
        let start = Instant::now();
        let mut clock = TokenClock::start(POLICY, start, seconds(900));
        assert_eq!(first_due(&clock, start), 780);
        assert_eq!(clock.tick(start + seconds(779)), None);
        let due = start + seconds(780);
        assert_eq!(clock.tick(due), Some(TokenEvent::Expiring));
        assert_eq!(clock.tick(due), None);
        assert!(!clock.is_expired());
        assert_eq!(clock.tick(start + seconds(900)), Some(TokenEvent::Expired));
        assert!(clock.is_expired());
        assert_eq!(clock.tick(start + seconds(929)), None);
        assert_eq!(clock.tick(start + seconds(930)), Some(TokenEvent::GraceOver));
        assert_eq!(clock.tick(start + seconds(999)), None);
    }

    #[test]
    fn with_less_left_than_the_warning_it_warns_at_once() {
        let start = Instant::now();
        let mut clock = TokenClock::start(POLICY, start, seconds(10));
        assert_eq!(
            story(&mut clock, start),
            [(0, TokenEvent::Expiring), (10, TokenEvent::Expired), (40, TokenEvent::GraceOver)]
        );
    }

    #[test]
    fn a_new_token_starts_it_over_also_after_the_expiry() {
        let start = Instant::now();
        let mut clock = TokenClock::start(POLICY, start, seconds(10));
        assert_eq!(clock.tick(start), Some(TokenEvent::Expiring));
        assert_eq!(clock.tick(start + seconds(10)), Some(TokenEvent::Expired));
        let late = start + seconds(35);
        clock.renew(late, seconds(900));
        assert!(!clock.is_expired());
        assert_eq!(first_due(&clock, late), 780);
        assert_eq!(clock.tick(late), None);
        assert_eq!(clock.tick(late + seconds(780)), Some(TokenEvent::Expiring));
    }

    #[test]
    fn it_can_be_told_not_to_warn() {
        let start = Instant::now();
        let mut clock = TokenClock::start(TokenPolicy { warning: Duration::ZERO, ..POLICY }, start, seconds(10));
        assert_eq!(clock.tick(start), None);
        assert_eq!(clock.tick(start + seconds(10)), Some(TokenEvent::Expired));
    }
}
