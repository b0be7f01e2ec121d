//! The rooms on this replica: who of its connections is in which, and what they are told.
//!
//! Rooms are dealt out to a few tasks, the *shards*. A room belongs to one shard, which alone touches it, so that everybody
//! in it hears the same in the same order. A shard follows the room's events in Redis, and tells Redis what changes here.

mod calls;
mod event;
mod following;
mod history;
mod pending;
mod room;
mod shard;
mod typing;
mod view;

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    thread::available_parallelism,
    time::Duration,
};

use fred::{bytes_utils::Str, clients::SubscriberClient};
use gatefold_shared::{
    lifecycle::Lifecycle,
    redis::{Redis, RedisError},
    rooms::{RoomName, User},
};
use metrics::gauge;
use serde_json::value::RawValue;
use tokio::{
    sync::{Semaphore, mpsc},
    time::interval,
};
use uuid::Uuid;

pub(crate) use self::pending::Pending;
use self::shard::Shard;
use crate::{peer::Peer, presence::lease::Lease, protocol::StreamId};

/// What may wait for a shard. Clients are told to try again when there is more; events and farewells wait for their turn.
const BACKLOG: usize = 4096;
/// Updates of rooms that may be under way at once: after an outage there are as many as rooms.
const UPDATES_AT_ONCE: usize = 64;

/// A way to all rooms of this replica.
pub(crate) struct Hub {
    shards: Box<[mpsc::Sender<Notice>]>,
    hasher: RandomState,
    lease: Lease,
}

/// How rooms behave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoomPolicy {
    /// How long a lost connection has to come back before others hear that its user left.
    pub(crate) presence_grace: Duration,
    /// How long a start of typing lasts.
    pub(crate) typing_expiry: Duration,
    /// Typing is not told in rooms with more users.
    pub(crate) typing_room_limit: usize,
}

/// What a connection asks for.
pub(crate) struct Request {
    pub(crate) room: RoomName,
    pub(crate) peer: Arc<Peer>,
    pub(crate) user: User,
    pub(crate) pending: Pending,
    pub(crate) what: What,
}

/// See [`crate::protocol::RoomRequest`].
pub(crate) enum What {
    Join { since: Option<StreamId>, needs_grant: bool },
    Leave,
    Publish { data: Box<RawValue> },
    Typing { typing: bool },
    Presence { needs_grant: bool },
}

/// There is too much to do already for this.
pub(crate) struct Busy(pub(crate) Box<Request>);

/// What a shard hears.
enum Notice {
    Request(Request),
    /// A connection has ended.
    Gone {
        room: RoomName,
        peer: Uuid,
    },
    /// Something happened in a room.
    Event {
        channel: Str,
        event: Str,
    },
    /// Events may have been missed.
    Missed,
    /// Nothing is subscribed to any more.
    Unsubscribed,
    /// The replica has a new id, under which it has said nothing yet, instead of this one.
    Reborn(Uuid),
}

/// What all shards share.
struct Context {
    redis: Redis,
    subscriber: SubscriberClient,
    lease: Lease,
    policy: RoomPolicy,
    life: Lifecycle,
    updates: Semaphore,
}

impl Hub {
    /// Begins to follow Redis.
    pub(crate) fn start(redis: Redis, policy: RoomPolicy, life: &Lifecycle) -> Result<Self, RedisError> {
        let subscriber = redis.subscriber(BACKLOG)?;
        let lease = Lease::new(policy.presence_grace);
        let context = Arc::new(Context {
            redis,
            subscriber,
            lease: lease.clone(),
            policy,
            life: life.clone(),
            updates: Semaphore::new(UPDATES_AT_ONCE),
        });
        let shards = (0..available_parallelism().map_or(1, usize::from)).map(|_| {
            let (sender, notices) = mpsc::channel(BACKLOG);
            life.spawn_forever("rooms", Shard::new(Arc::clone(&context)).run(notices));
            sender
        });
        let hub = Self { shards: shards.collect(), hasher: RandomState::new(), lease };
        following::start(&hub, &context, life);
        life.spawn_forever("watch shards", watch(hub.shards.clone()));
        Ok(hub)
    }

    /// Whether rooms can be joined.
    pub(crate) fn is_ready(&self) -> bool {
        self.lease.current().1 > 0
    }

    /// What this replica is called among replicas.
    pub(crate) fn replica(&self) -> Uuid {
        self.lease.current().0
    }

    /// Passes a request on; the answer goes to the peer.
    pub(crate) fn pass_on(&self, request: Request) -> Result<(), Busy> {
        match self.shard_of(request.room.as_str()).try_reserve() {
            Ok(place) => {
                place.send(Notice::Request(request));
                Ok(())
            }
            Err(_) => Err(Busy(Box::new(request))),
        }
    }

    /// Takes a connection that has ended out of its rooms.
    pub(crate) async fn forget(&self, peer: &Peer) {
        for room in peer.leave_all() {
            // Shards only end with the replica.
            let _ = self.shard_of(room.as_str()).send(Notice::Gone { room, peer: peer.id }).await;
        }
    }

    fn shard_of(&self, room: &str) -> &mpsc::Sender<Notice> {
        shard_of(&self.shards, &self.hasher, room)
    }
}

/// Tells how much waits for the shards, again and again.
async fn watch(shards: Box<[mpsc::Sender<Notice>]>) {
    let mut tick = interval(Duration::from_secs(1));
    loop {
        tick.tick().await;
        let waiting = shards.iter().map(|shard| shard.max_capacity() - shard.capacity()).max();
        gauge!("ws_shard_backlog").set(u32::try_from(waiting.unwrap_or_default()).unwrap_or(u32::MAX));
    }
}

fn shard_of<'a>(shards: &'a [mpsc::Sender<Notice>], hasher: &RandomState, room: &str) -> &'a mpsc::Sender<Notice> {
    let hash = usize::try_from(hasher.hash_one(room) % shards.len() as u64).unwrap_or_default();
    &shards[hash]
}
