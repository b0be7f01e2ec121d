//! How much work a peer makes whatever it says: frames of every kind, empty ones too, and segments of the network. Messages
//! have limits of their own, which do not see what a message consists of. Pure: it is told what time it is.

use std::time::Duration;

use tokio::time::Instant;

/// One unit of work is regained after this long: 1,000 a second.
const INTERVAL: Duration = Duration::from_millis(1);
/// Units that may be used at once. The longest message may come byte by byte, each byte a frame in a segment of its own:
/// that is 32,768.
const BURST: u32 = 40_000;

/// The work budget of one connection.
#[derive(Debug)]
pub(super) struct Work {
    /// GCRA's theoretical arrival time: when the burst will be whole again.
    whole_at: Instant,
}

/// The peer made more work than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many frames")]
pub(super) struct TooMuchWork;

impl Work {
    pub(super) fn new(now: Instant) -> Self {
        Self { whole_at: now }
    }

    /// Charges one read of the network that brought this many frames.
    pub(super) fn charge(&mut self, frames: u32, now: Instant) -> Result<(), TooMuchWork> {
        self.whole_at = self.whole_at.max(now) + INTERVAL * frames.saturating_add(1);
        if self.whole_at - now <= INTERVAL * BURST { Ok(()) } else { Err(TooMuchWork) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_message_in_frames_and_segments_of_one_byte_is_within_the_budget() {
        let now = Instant::now();
        let mut work = Work::new(now);
        assert!((0..16 * 1024).all(|_| work.charge(1, now).is_ok()));
    }

    #[test]
    fn empty_frames_exceed_the_budget_however_they_are_cut() {
        let now = Instant::now();
        for frames in [0, 1, 682] {
            let mut work = Work::new(now);
            let reads = (0..=BURST).take_while(|_| work.charge(frames, now).is_ok()).count();
            assert_eq!(reads, usize::try_from(BURST / (frames + 1)).expect("a number"), "{frames} frames in each read");
        }
    }

    #[test]
    fn a_thousand_units_a_second_never_exceed_the_budget() {
        let mut now = Instant::now();
        let mut work = Work::new(now);
        for _ in 0..100_000 {
            now += Duration::from_millis(2);
            assert_eq!(work.charge(1, now), Ok(()));
        }
    }
}
