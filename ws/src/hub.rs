//! The rooms on this replica: who of its connections is in which, and what they are told.
//!
//! Rooms are dealt out to a few tasks, the *shards*. A room belongs to one shard, which alone touches it, so that everybody
//! in it hears the same in the same order. A shard follows the room's events in Redis, and tells Redis what changes here.

mod calls;
mod event;
mod following;
mod history;
mod inbox;
mod notes;
mod pending;
mod room;
mod shard;
mod shards;
mod turns;
mod typing;
mod view;

use std::{sync::Arc, time::Duration};

use gatefold_shared::{
    budgets::{Budget, Budgets},
    jwt::Subject,
    lifecycle::Lifecycle,
    limit::Limit,
    redis::{Redis, Slots, StreamId, Subscriber},
    rooms::{RoomName, User},
};
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use uuid::Uuid;

pub(crate) use self::pending::Pending;
use self::{
    notes::Notes,
    shard::Shard,
    shards::{BACKLOG, Shards},
    turns::Turns,
};
use crate::{
    peer::Peer,
    presence::{lease::Lease, replicas::Replicas},
    roster::Sessions,
};

/// Updates of rooms that may be under way at once: after an outage there are as many as rooms.
const UPDATES_AT_ONCE: usize = 64;

/// A way to all rooms of this replica.
pub(crate) struct Hub {
    shards: Shards,
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
    /// How much may be published in one room.
    pub(crate) publishes: Limit,
}

/// What users are charged for what they have had read.
pub(crate) struct Charges {
    pub(crate) budgets: Budgets,
    pub(crate) bytes: Budget,
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
    Join(Join),
    Leave,
    Publish { data: Box<RawValue> },
    Typing { typing: bool },
    Presence { grantee: Option<Subject> },
}

/// What has to be looked up before somebody may join.
#[derive(Clone, Copy)]
pub(crate) struct Join {
    /// The last message that they have got.
    pub(crate) since: Option<StreamId>,
    /// Whose grant it takes, if it takes one.
    pub(crate) grantee: Option<Subject>,
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
    /// Events of rooms in these slots may have been missed.
    Missed(Slots),
    /// Nothing is subscribed to any more in these slots.
    Unsubscribed(Slots),
    /// The replica has a new id, under which it has said nothing yet, instead of this one.
    Reborn(Uuid),
    /// Another replica is gone for good.
    Vanished(Uuid),
}

/// What all shards share.
struct Context {
    /// For what happens in rooms.
    redis: Redis,
    /// For leases, which must not wait behind that.
    leases: Redis,
    subscriber: Subscriber,
    lease: Lease,
    policy: RoomPolicy,
    life: Lifecycle,
    updates: Semaphore,
    notes: Notes,
    turns: Turns,
    charges: Charges,
    replicas: Replicas,
}

impl Hub {
    /// Begins to follow Redis.
    pub(crate) fn start(
        redis: Redis,
        policy: RoomPolicy,
        charges: Charges,
        sessions: Sessions,
        life: &Lifecycle,
    ) -> Self {
        let (subscriber, heard) = redis.subscriber(BACKLOG);
        let lease = Lease::new(policy.presence_grace);
        let context = Arc::new(Context {
            redis: redis.rooms(),
            leases: redis,
            subscriber,
            lease: lease.clone(),
            policy,
            life: life.clone(),
            updates: Semaphore::new(UPDATES_AT_ONCE),
            notes: Notes::default(),
            turns: Turns::default(),
            charges,
            replicas: Replicas::default(),
        });
        let shards = Shards::new(|notices, inbox| {
            life.spawn_forever("rooms", Shard::new(Arc::clone(&context)).run(notices, inbox));
        });
        following::start(&shards, &context, heard, sessions, life);
        life.spawn_forever("watch shards", shards.clone().watch());
        Self { shards, lease }
    }

    /// Whether rooms can be joined.
    pub(crate) fn is_ready(&self) -> bool {
        self.lease.current().is_held()
    }

    /// What this replica is called among replicas.
    pub(crate) fn replica(&self) -> Uuid {
        self.lease.current().replica
    }

    /// Passes a request on; the answer goes to the peer.
    pub(crate) fn pass_on(&self, request: Request) -> Result<(), Busy> {
        match self.shards.of(request.room.as_str()).try_reserve() {
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
            let shard = room.clone();
            self.shards.tell(shard.as_str(), Notice::Gone { room, peer: peer.id }).await;
        }
    }
}
