//! How much one connection may ask of us. Pure: it is told what time it is. A connection that behaves costs no memory here.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// One message earns its place again after this long: 30 a second.
const INTERVAL: Duration = Duration::from_nanos(1_000_000_000 / 30);
/// So many may come at once.
const BURST: u32 = 60;
/// More refused messages than this within [`REFUSED_WITHIN`] are a flood.
const REFUSED: usize = 60;
const REFUSED_WITHIN: Duration = Duration::from_secs(10);
/// This many invalid messages within [`INVALID_WITHIN`] are no accident.
const INVALID: usize = 20;
const INVALID_WITHIN: Duration = Duration::from_mins(1);

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is looked at.
    Admitted,
    /// It is one too many.
    Refused,
    /// It is one of far too many: the connection must go.
    Flood,
}

/// The limits of one connection.
#[derive(Debug)]
pub(crate) struct Limits {
    /// GCRA's theoretical arrival time: when the burst will be whole again.
    whole_at: Instant,
    refused: Recent,
    invalid: Recent,
}

impl Limits {
    pub(crate) fn new(now: Instant) -> Self {
        Self { whole_at: now, refused: Recent::default(), invalid: Recent::default() }
    }

    /// A message came in.
    pub(crate) fn admit(&mut self, now: Instant) -> Admission {
        let whole_at = self.whole_at.max(now) + INTERVAL;
        if whole_at - now <= INTERVAL * BURST {
            self.whole_at = whole_at;
            return Admission::Admitted;
        }
        if self.refused.count(now, REFUSED_WITHIN) > REFUSED { Admission::Flood } else { Admission::Refused }
    }

    /// Answers have cost as much as so many messages. Whoever owes more than that is not served for longer all the same.
    pub(crate) fn charge(&mut self, messages: u32, now: Instant) {
        let most = now + INTERVAL * (2 * BURST);
        self.whole_at = (self.whole_at.max(now) + INTERVAL * messages.min(2 * BURST)).min(most);
    }

    /// A message made no sense; whether that happened too often.
    pub(crate) fn too_many_invalid(&mut self, now: Instant) -> bool {
        self.invalid.count(now, INVALID_WITHIN) >= INVALID
    }
}

/// When something happened lately. Bounded, because a connection is closed when there is too much of it.
#[derive(Debug, Default)]
struct Recent(VecDeque<Instant>);

impl Recent {
    /// It happened once more; how often did it within the last while?
    fn count(&mut self, now: Instant, within: Duration) -> usize {
        while self.0.front().is_some_and(|&at| now.duration_since(at) >= within) {
            self.0.pop_front();
        }
        self.0.push_back(now);
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(limits: &mut Limits, now: Instant, messages: usize) -> usize {
        (0..messages).filter(|_| limits.admit(now) == Admission::Admitted).count()
    }

    #[test]
    fn sixty_at_once_then_thirty_a_second() {
        let start = Instant::now();
        let mut limits = Limits::new(start);
        assert_eq!(admitted(&mut limits, start, 70), 60);
        assert_eq!(admitted(&mut limits, start + Duration::from_millis(1001), 40), 30);
        assert_eq!(admitted(&mut limits, start + Duration::from_mins(1), 70), 60);
    }

    #[test]
    fn large_answers_count_as_messages_but_bar_nobody_for_more_than_two_seconds() {
        let start = Instant::now();
        let mut limits = Limits::new(start);
        limits.charge(16, start);
        assert_eq!(admitted(&mut limits, start, 70), 44);
        limits.charge(u32::MAX, start);
        assert_eq!(admitted(&mut limits, start + Duration::from_millis(1900), 1), 0);
        assert_eq!(admitted(&mut limits, start + Duration::from_millis(3001), 40), 30);
    }

    #[test]
    fn more_than_sixty_refused_within_ten_seconds_are_a_flood() {
        let start = Instant::now();
        let mut limits = Limits::new(start);
        let mut at_once: Vec<_> = (0..121).map(|_| limits.admit(start)).collect();
        assert_eq!(at_once.pop(), Some(Admission::Flood));
        assert_eq!(at_once.iter().filter(|&&it| it == Admission::Refused).count(), 60);
    }

    #[test]
    fn refusals_are_forgiven_after_ten_seconds() {
        let mut now = Instant::now();
        let mut limits = Limits::new(now);
        for _ in 0..5 {
            assert!((0..110).all(|_| limits.admit(now) != Admission::Flood));
            now += Duration::from_secs(10);
        }
    }

    #[test]
    fn the_twentieth_invalid_message_within_a_minute_is_too_many() {
        let start = Instant::now();
        let mut limits = Limits::new(start);
        assert!((0..19).all(|_| !limits.too_many_invalid(start)));
        assert!(limits.too_many_invalid(start + Duration::from_secs(59)));
        assert!(!limits.too_many_invalid(start + Duration::from_secs(70)));
    }
}
