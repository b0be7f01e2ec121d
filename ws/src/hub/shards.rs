//! Which room belongs to which shard, and how shards are told.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    thread::available_parallelism,
    time::Duration,
};

use gatefold_shared::redis::Str;
use metrics::gauge;
use tokio::{sync::mpsc, time::interval};

use super::{Notice, inbox::Inbox};

/// What may wait for a shard. Clients are told to try again when there is more; a room whose events are too many reads what it
/// has missed; farewells wait for their turn.
pub(super) const BACKLOG: usize = 4096;

/// The ways to all shards.
#[derive(Clone)]
pub(super) struct Shards {
    senders: Box<[mpsc::Sender<Notice>]>,
    inboxes: Box<[Arc<Inbox>]>,
    hasher: RandomState,
}

impl Shards {
    /// One for each core, each begun with the end of its way.
    pub(super) fn new(begin: impl Fn(mpsc::Receiver<Notice>, Arc<Inbox>)) -> Self {
        let shards = (0..available_parallelism().map_or(1, usize::from)).map(|_| {
            let (sender, notices) = mpsc::channel(BACKLOG);
            let inbox = Arc::new(Inbox::new(BACKLOG));
            begin(notices, Arc::clone(&inbox));
            (sender, inbox)
        });
        let (senders, inboxes): (Vec<_>, Vec<_>) = shards.unzip();
        Self { senders: senders.into(), inboxes: inboxes.into(), hasher: RandomState::new() }
    }

    fn index_of(&self, room: &str) -> usize {
        usize::try_from(self.hasher.hash_one(room) % self.senders.len() as u64).unwrap_or_default()
    }

    /// The shard that a room belongs to.
    pub(super) fn of(&self, room: &str) -> &mpsc::Sender<Notice> {
        &self.senders[self.index_of(room)]
    }

    /// Something happened in a room. Never waits.
    pub(super) fn hear(&self, room: &str, channel: &Str, event: Str) {
        self.inboxes[self.index_of(room)].put(channel, event);
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
            let shards = self.senders.iter().zip(&self.inboxes);
            let waiting = shards.map(|(shard, inbox)| (shard.max_capacity() - shard.capacity()).max(inbox.len())).max();
            gauge!("gatefold_ws_shard_backlog").set(u32::try_from(waiting.unwrap_or_default()).unwrap_or(u32::MAX));
        }
    }
}
