//! Messages into rooms. Each is published over one socket and must be delivered once to every socket in the room, the
//! publisher's too, on whichever replica that is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use crate::bench::{Actor, Bench};
use crate::failure::Failure;
use crate::hall::{close_all, fill};
use crate::record::Meter;
use crate::socket::{Listener, Payload, Socket};

/// How long the last deliveries may take.
pub(super) const LAST: Duration = Duration::from_secs(5);

/// What happened in one room.
#[derive(Default)]
struct Ledger {
    published: AtomicU64,
    /// Those of which nobody knows whether they were published: the answer did not come.
    doubtful: AtomicU64,
    delivered: AtomicU64,
}

struct Publishes {
    socket: Socket,
    room: Arc<str>,
    ledger: Arc<Ledger>,
    epoch: Instant,
    meter: Arc<Meter>,
}

impl Actor for Publishes {
    async fn prepare(&mut self) -> Result<(), Failure> {
        self.socket.may_speak().await;
        Ok(())
    }

    async fn act(&mut self, intended: Instant) -> Result<(), Failure> {
        self.ledger.doubtful.fetch_add(1, Ordering::Relaxed);
        let published = self.socket.ask(message(&self.room, intended, self.epoch), "published").await;
        if published.is_ok() {
            self.ledger.published.fetch_add(1, Ordering::Relaxed);
            self.ledger.doubtful.fetch_sub(1, Ordering::Relaxed);
        }
        published
    }

    fn meter(&self) -> &Meter {
        &self.meter
    }
}

/// What is published says when that was meant to be.
pub(super) fn message(room: &str, intended: Instant, epoch: Instant) -> serde_json::Value {
    let at = u64::try_from(intended.saturating_duration_since(epoch).as_nanos()).unwrap_or(u64::MAX);
    json!({"type": "publish", "room": room, "data": {"at": at}})
}

/// Counts one delivery, if it is one; whether it was.
pub(super) fn delivered(meter: &Meter, epoch: Instant, kind: &str, payload: &Payload<'_>) -> bool {
    let Some(data) = payload.data.as_ref().filter(|_| kind == "message") else { return false };
    let intended = epoch + Duration::from_nanos(data.at);
    meter.succeeded(intended, intended.elapsed());
    true
}

pub(super) async fn run(bench: &Bench<'_>) -> Result<()> {
    let (publish, deliver) = (bench.meter("publish"), bench.meter("delivery"));
    let epoch = Instant::now();
    let ledgers: Vec<Arc<Ledger>> = (0..bench.sizes.rooms).map(|_| Arc::default()).collect();
    let listener = |room: usize| -> Listener {
        let (ledger, meter) = (Arc::clone(&ledgers[room]), Arc::clone(&deliver));
        Arc::new(move |kind, payload| {
            if delivered(&meter, epoch, kind, payload) {
                ledger.delivered.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let rooms = fill(bench, bench.users, listener).await?;
    let mut actors = Vec::new();
    for (room, ledger) in rooms.into_iter().zip(&ledgers) {
        actors.extend(room.members.into_iter().map(|(_, socket)| Publishes {
            socket,
            room: Arc::clone(&room.name),
            ledger: Arc::clone(ledger),
            epoch,
            meter: Arc::clone(&publish),
        }));
    }
    let actors = bench.drive(actors).await?;
    let members = u64::from(bench.sizes.members);
    settle(bench, &deliver, || ledgers.iter().map(|ledger| ledger.balance(members))).await;
    close_all(actors.into_iter().map(|actor| actor.socket)).await;
    Ok(())
}

/// Waits for the last deliveries, and counts as errors what is missing and what is too much. `balances` has both for each
/// room.
pub(super) async fn settle<B: Iterator<Item = (u64, u64)>>(
    bench: &Bench<'_>,
    deliver: &Meter,
    balances: impl Fn() -> B,
) {
    let deadline = Instant::now() + LAST;
    while Instant::now() < deadline && balances().any(|(missing, _)| missing > 0) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let now = bench.recorder.start();
    for (missing, surplus) in balances() {
        deliver.failed_times(now, &Failure::NotDelivered, missing);
        deliver.failed_times(now, &Failure::DeliveredTwice, surplus);
    }
    bench.recorder.tick(Duration::ZERO);
}

impl Ledger {
    /// How many deliveries are missing, and how many are too many.
    fn balance(&self, members: u64) -> (u64, u64) {
        let least = self.published.load(Ordering::Relaxed) * members;
        let most = least + self.doubtful.load(Ordering::Relaxed) * members;
        let delivered = self.delivered.load(Ordering::Relaxed);
        (least.saturating_sub(delivered), delivered.saturating_sub(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_may_have_been_published_is_neither_missing_nor_too_much() {
        let ledger = Ledger { published: 3.into(), doubtful: 1.into(), delivered: 30.into() };
        assert_eq!(ledger.balance(10), (0, 0));
        ledger.delivered.store(40, Ordering::Relaxed);
        assert_eq!(ledger.balance(10), (0, 0));
        ledger.delivered.store(41, Ordering::Relaxed);
        assert_eq!(ledger.balance(10), (0, 1));
        ledger.delivered.store(29, Ordering::Relaxed);
        assert_eq!(ledger.balance(10), (1, 0));
    }
}
