//! When operations start: the one place that decides it.
//!
//! In an open loop each operation has an *intended start*, which depends on nothing but the rate. Its latency counts from
//! there, whether or not somebody was free to start it in time: a server that stalls for a second is charged for every
//! request that it kept from being sent (no coordinated omission). In a closed loop a fixed number of operations is under
//! way at any time, each starts when another ends, and a stall hides as many as were not sent: good for finding the
//! highest throughput, bad for latencies.

mod schedule;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

pub(crate) use self::schedule::{Schedule, Swing};

/// How often a waiting pace looks whether it should stop.
const NAP: Duration = Duration::from_millis(50);

/// What decides when the next operation starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Load {
    /// So many a second, whatever becomes of them.
    Open(Schedule),
    /// So many at once.
    Closed { concurrency: usize },
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(schedule) => write!(f, "{schedule}"),
            Self::Closed { concurrency } => write!(f, "{concurrency} at once"),
        }
    }
}

/// Leave to do one operation; in a closed loop, as long as it is held.
pub(crate) struct Turn {
    /// From when its latency counts.
    pub(crate) intended: Instant,
    _place: Option<OwnedSemaphorePermit>,
}

/// Gives out turns until the end.
pub(crate) struct Pace {
    start: Instant,
    end: Instant,
    stop: CancellationToken,
    kind: Kind,
}

enum Kind {
    Open {
        schedule: Schedule,
        total: u64,
        taken: AtomicU64,
        /// One permit for each turn that has come and was not taken.
        due: Arc<Semaphore>,
    },
    Closed {
        free: Arc<Semaphore>,
    },
}

impl Pace {
    /// Turns from `start` until `end` or `stop`, for so many `actors`.
    pub(crate) fn start(
        load: Load,
        start: Instant,
        end: Instant,
        actors: usize,
        stop: &CancellationToken,
    ) -> Result<(Arc<Self>, Option<JoinHandle<()>>)> {
        let stop = stop.clone();
        let (kind, clock) = match load {
            Load::Closed { concurrency } => (Kind::Closed { free: Arc::new(Semaphore::new(concurrency)) }, None),
            Load::Open(schedule) => {
                let (total, due) = (schedule.count(end - start), Arc::new(Semaphore::new(0)));
                let clock = clock(schedule, start, total, actors, (Arc::clone(&due), stop.clone()))?;
                (Kind::Open { schedule, total, taken: AtomicU64::new(0), due }, Some(clock))
            }
        };
        Ok((Arc::new(Self { start, end, stop, kind }), clock))
    }

    /// The next turn, when it comes; none after the end.
    pub(crate) async fn next(&self) -> Option<Turn> {
        match &self.kind {
            Kind::Open { schedule, total, taken, due } => {
                due.acquire().await.ok()?.forget();
                let turn = taken.fetch_add(1, Ordering::Relaxed);
                let intended = self.start + schedule.at(turn);
                let is_one = turn < *total && !self.stop.is_cancelled();
                is_one.then_some(Turn { intended, _place: None })
            }
            Kind::Closed { free } => {
                tokio::time::sleep_until(self.start.into()).await;
                let place = Arc::clone(free).acquire_owned().await.ok()?;
                let intended = Instant::now();
                let is_one = intended < self.end && !self.stop.is_cancelled();
                is_one.then_some(Turn { intended, _place: Some(place) })
            }
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// The intended starts of operations that nobody has started.
    pub(crate) fn never_started(&self) -> Vec<Instant> {
        let Kind::Open { schedule, total, taken, .. } = &self.kind else { return Vec::new() };
        let now = Instant::now();
        let left = taken.load(Ordering::Relaxed)..*total;
        left.map(|turn| self.start + schedule.at(turn)).take_while(|intended| *intended < now).collect()
    }
}

/// Makes turns due. A thread, since it wakes up within some 60 us; the runtime's timer has a grain of 1 ms.
fn clock(
    schedule: Schedule,
    start: Instant,
    total: u64,
    actors: usize,
    (due, stop): (Arc<Semaphore>, CancellationToken),
) -> Result<JoinHandle<()>> {
    let tick = move || {
        for turn in 0..total {
            if !sleep_until(start + schedule.at(turn), &stop) {
                break;
            }
            due.add_permits(1);
        }
        due.add_permits(actors); // wakes those who wait, to be told that this was all
    };
    thread::Builder::new().name("pace".to_owned()).spawn(tick).context("cannot start a thread")
}

/// Whether the time has come; not if it is to stop before.
fn sleep_until(when: Instant, stop: &CancellationToken) -> bool {
    while !stop.is_cancelled() {
        match when.checked_duration_since(Instant::now()) {
            None => return true,
            Some(left) => thread::sleep(left.min(NAP)),
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(load: Load, length: Duration, actors: usize) -> Arc<Pace> {
        let now = Instant::now();
        Pace::start(load, now, now + length, actors, &CancellationToken::new()).unwrap().0
    }

    #[tokio::test]
    async fn a_late_actor_gets_the_start_that_was_intended() {
        let pace = start(Load::Open(Schedule::even(100.0)), Duration::from_millis(200), 1);
        let first = pace.next().await.unwrap().intended;
        tokio::time::sleep(Duration::from_millis(120)).await; // the server stalls
        for turn in 1..=10 {
            let intended = pace.next().await.unwrap().intended;
            assert_eq!(intended - first, Duration::from_millis(10) * turn, "turn {turn} was moved by the stall");
        }
    }

    #[tokio::test]
    async fn no_turn_is_given_before_its_time_and_none_after_the_last() {
        let pace = start(Load::Open(Schedule::even(50.0)), Duration::from_millis(100), 2);
        let mut turns = 0;
        while let Some(turn) = pace.next().await {
            assert!(turn.intended <= Instant::now());
            turns += 1;
        }
        assert_eq!(turns, 5);
        assert!(pace.next().await.is_none() && pace.never_started().is_empty());
    }

    #[tokio::test]
    async fn turns_that_nobody_took_are_known() {
        let pace = start(Load::Open(Schedule::even(100.0)), Duration::from_millis(50), 1);
        assert!(pace.next().await.is_some());
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert_eq!(pace.never_started().len(), 4);
    }

    #[tokio::test]
    async fn a_closed_loop_lets_so_many_act_at_once() {
        let pace = start(Load::Closed { concurrency: 2 }, Duration::from_secs(5), 3);
        let (one, _other) = (pace.next().await.unwrap(), pace.next().await.unwrap());
        let third = pace.next();
        tokio::pin!(third);
        assert!(futures_util::FutureExt::now_or_never(&mut third).is_none(), "a third was let in");
        drop(one);
        assert!(third.await.is_some());
    }

    #[tokio::test]
    async fn stopping_ends_both_kinds() {
        for load in [Load::Open(Schedule::even(1_000.0)), Load::Closed { concurrency: 1 }] {
            let (stop, now) = (CancellationToken::new(), Instant::now());
            let (pace, _) = Pace::start(load, now, now + Duration::from_hours(1), 1, &stop).unwrap();
            assert!(pace.next().await.is_some());
            stop.cancel();
            assert!(pace.next().await.is_none());
        }
    }
}
