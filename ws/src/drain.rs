//! The replica goes away, and its sockets with it: each is told when, at random, and closed then. If all were closed at
//! once, all would come back at once, to the replicas that are left.

use std::{sync::Arc, time::Duration};

use gatefold_shared::lifecycle::Lifecycle;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::info;
use uuid::Uuid;

use crate::{close::CloseReason, frame, peer::Peer, protocol::ServerMessage, roster::Roster};

/// Sockets that are closed in a second, unless there is no time for that.
const PACE: u32 = 200;
/// Sockets are closed in batches, so often.
const BATCH: Duration = Duration::from_millis(50);

/// Once the replica is draining, sends everybody away within `deadline`.
pub(crate) async fn drain(roster: Arc<Roster>, life: Lifecycle, deadline: Duration) {
    life.draining().cancelled().await;
    let everybody = in_random_order(roster.everybody());
    let window = window(everybody.len(), deadline);
    info!(sockets = everybody.len(), seconds = window.as_secs_f64(), "sending the sockets away");
    let count = u32::try_from(everybody.len()).unwrap_or(u32::MAX).max(1);
    let began = Instant::now();
    let after = |place: usize| window.mul_f64(f64::from(u32::try_from(place).unwrap_or(count)) / f64::from(count));
    for (place, peer) in everybody.iter().enumerate() {
        let after = u64::try_from(after(place).as_millis()).unwrap_or(u64::MAX);
        peer.send(&frame::text(&ServerMessage::Reconnect { after }.to_json(None)));
    }
    for (place, peer) in everybody.iter().enumerate() {
        let due = began + after(place);
        if due > Instant::now() + BATCH {
            sleep_until(due).await;
        }
        peer.end(CloseReason::ServiceRestart);
    }
    // Those who came in just as the door was closed.
    loop {
        roster.everybody().iter().for_each(|peer| peer.end(CloseReason::ServiceRestart));
        sleep(BATCH).await;
    }
}

/// Over how long so many sockets are closed. It leaves a quarter of the time for the last ones to say goodbye.
fn window(sockets: usize, deadline: Duration) -> Duration {
    let seconds = f64::from(u32::try_from(sockets).unwrap_or(u32::MAX)) / f64::from(PACE);
    Duration::from_secs_f64(seconds).min(deadline * 3 / 4)
}

/// A new random number for each, and sorted by it.
fn in_random_order(peers: Vec<Arc<Peer>>) -> Vec<Arc<Peer>> {
    let mut drawn: Vec<_> = peers.into_iter().map(|peer| (Uuid::new_v4(), peer)).collect();
    drawn.sort_unstable_by_key(|(number, _)| *number);
    drawn.into_iter().map(|(_, peer)| peer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_sockets_go_quickly_and_many_still_in_time() {
        let deadline = Duration::from_secs(20);
        assert_eq!(window(0, deadline), Duration::ZERO);
        assert_eq!(window(200, deadline), Duration::from_secs(1));
        assert_eq!(window(1_000_000, deadline), Duration::from_secs(15));
    }

    #[test]
    fn nobody_is_forgotten_or_told_twice() {
        let peers: Vec<_> = (0..50).map(|_| Arc::new(Peer::new(tokio::io::sink()))).collect();
        let mut ids: Vec<_> = peers.iter().map(|peer| peer.id).collect();
        let mut drawn: Vec<_> = in_random_order(peers).iter().map(|peer| peer.id).collect();
        assert_ne!(ids, drawn, "one in 50! times");
        ids.sort_unstable();
        drawn.sort_unstable();
        assert_eq!(ids, drawn);
    }
}
