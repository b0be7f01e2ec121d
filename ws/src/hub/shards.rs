//! Which room belongs to which shard, and how shards are told.

use std::{
    hash::{BuildHasher, RandomState},
    thread::available_parallelism,
    time::Duration,
};

use metrics::gauge;
use tokio::{sync::mpsc, time::interval};

use super::Notice;

/// What may wait for a shard. Clients are told to try again when there is more; events and farewells wait for their turn.
pub(super) const BACKLOG: usize = 4096;

/// The ways to all shards.
#[derive(Clone)]
pub(super) struct Shards {
    senders: Box<[mpsc::Sender<Notice>]>,
    hasher: RandomState,
}

impl Shards {
    /// One for each core, each begun with the end of its way.
    pub(super) fn new(begin: impl Fn(mpsc::Receiver<Notice>)) -> Self {
        let senders = (0..available_parallelism().map_or(1, usize::from)).map(|_| {
            let (sender, notices) = mpsc::channel(BACKLOG);
            begin(notices);
            sender
        });
        Self { senders: senders.collect(), hasher: RandomState::new() }
    }

    /// The shard that a room belongs to.
    pub(super) fn of(&self, room: &str) -> &mpsc::Sender<Notice> {
        let hash = usize::try_from(self.hasher.hash_one(room) % self.senders.len() as u64).unwrap_or_default();
        &self.senders[hash]
    }

    /// Tells the shard of a room, in its turn.
    pub(super) async fn tell(&self, room: &str, notice: Notice) {
        // Shards only end with the replica.
        let _ = self.of(room).send(notice).await;
    }

    /// Tells all of them.
    pub(super) async fn tell_all(&self, notice: impl Fn() -> Notice) {
        for shard in &self.senders {
            let _ = shard.send(notice()).await;
        }
    }

    /// Measures how much waits, again and again.
    pub(super) async fn watch(self) {
        let mut tick = interval(Duration::from_secs(1));
        loop {
            tick.tick().await;
            let waiting = self.senders.iter().map(|shard| shard.max_capacity() - shard.capacity()).max();
            gauge!("ws_shard_backlog").set(u32::try_from(waiting.unwrap_or_default()).unwrap_or(u32::MAX));
        }
    }
}
