//! Whether this replica has stood still (SIGSTOP, a machine that was suspended or far too busy).
//!
//! What it was asked before may have been given up and asked again elsewhere, so that it must not be taken for a retry that
//! comes late: that would make the successor worthless which the client has got from another replica.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gatefold_shared::{clock, lifecycle::Lifecycle};
use tokio::time::{Instant, sleep};

/// How often it beats.
const BEAT: Duration = Duration::from_millis(250);
/// A pause between two beats that is no more than a busy machine.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// For how long after a longer one requests may come to their turn that had waited meanwhile.
const RECOVERY: Duration = Duration::from_secs(3);

/// See the module; clones are the same.
#[derive(Clone)]
pub(super) struct Pulse(Arc<Mutex<Beats>>);

struct Beats {
    last: Moment,
    /// When it last went on after it had stood still.
    resumed: Option<Instant>,
}

/// Of a machine that is suspended the one clock stands still, and of one whose time is set the other one leaps.
#[derive(Clone, Copy)]
struct Moment {
    running: Instant,
    of_day: Duration,
}

impl Moment {
    fn now() -> Self {
        Self { running: Instant::now(), of_day: clock::since_epoch() }
    }

    fn since(self, earlier: Self) -> Duration {
        self.running.duration_since(earlier.running).max(self.of_day.saturating_sub(earlier.of_day))
    }
}

impl Pulse {
    pub(super) fn start(life: &Lifecycle) -> Self {
        let pulse = Self(Arc::new(Mutex::new(Beats { last: Moment::now(), resumed: None })));
        let beating = pulse.clone();
        life.spawn_forever("notice standstills", async move {
            loop {
                sleep(BEAT).await;
                beating.beat(Moment::now());
            }
        });
        pulse
    }

    fn beat(&self, now: Moment) {
        let mut beats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.since(beats.last) > LONGEST_PAUSE {
            beats.resumed = Some(now.running);
        }
        beats.last = now;
    }

    /// Whether what is asked now was not asked long ago.
    pub(super) fn is_steady(&self) -> bool {
        self.is_steady_at(Moment::now())
    }

    fn is_steady_at(&self, now: Moment) -> bool {
        let beats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A request may come to its turn before the beat that is overdue.
        let stands_still = now.since(beats.last) > LONGEST_PAUSE;
        !stands_still && beats.resumed.is_none_or(|resumed| now.running.duration_since(resumed) > RECOVERY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_standstill_by_either_clock_it_is_unsteady_for_a_while() {
        let start = Moment::now();
        let later = |running: u64, of_day: u64| Moment {
            running: start.running + Duration::from_millis(running),
            of_day: start.of_day + Duration::from_millis(of_day),
        };
        for (running, of_day) in [(60_000, 60_000), (10, 60_000)] {
            let pulse = Pulse(Arc::new(Mutex::new(Beats { last: start, resumed: None })));
            assert!(pulse.is_steady_at(later(250, 250)));
            assert!(!pulse.is_steady_at(later(running, of_day)), "before the beat");
            pulse.beat(later(running, of_day));
            assert!(!pulse.is_steady_at(later(running + 100, of_day + 100)), "and after it");
            pulse.beat(later(running + 2_900, of_day + 2_900));
            pulse.beat(later(running + 3_100, of_day + 3_100));
            assert!(pulse.is_steady_at(later(running + 3_100, of_day + 3_100)));
        }
    }
}
