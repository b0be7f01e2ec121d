//! What shards ask of Redis. Each call is bounded in time, and comes back to its shard as an outcome.

use std::sync::Arc;

use gatefold_shared::{
    grants,
    jwt::Subject,
    redis::{RedisError, StreamId, keys},
    rooms::{self, Present, Publication, RoomName},
};
use serde_json::value::{RawValue, to_raw_value};
use uuid::Uuid;

use super::{
    Context, Request,
    history::{self, History, Page},
    notes::Note,
    room::{ToLookUp, ToRead},
    turns::Turn,
    typing,
};
use crate::presence::{self, Changes, StateRequest, Updated};

/// What came of a call.
pub(super) enum Outcome {
    Updated {
        room: RoomName,
        update: Update,
        result: Result<(Updated, Option<History>), RedisError>,
    },
    LookedUp {
        room: RoomName,
        /// Which lookup it was.
        asked: u64,
        /// Whether they may enter.
        result: Result<bool, RedisError>,
        /// To have the history read, if that is needed.
        turn: Option<Turn>,
    },
    /// The history was read.
    Read {
        room: RoomName,
        /// Which reading it was.
        number: u64,
        result: Result<Page, RedisError>,
    },
    Typed {
        room: RoomName,
        changes: typing::Changes,
        result: Result<(), RedisError>,
    },
    Published {
        request: Request,
        result: Result<Publication, RedisError>,
    },
    Present {
        request: Request,
        result: Result<Present, RedisError>,
    },
    /// Whether whoever asks may still enter.
    MayEnter {
        request: Request,
        result: Result<bool, RedisError>,
    },
    /// Whether somebody who is in the room may still be.
    MayStay {
        room: RoomName,
        user_id: i64,
        result: Result<bool, RedisError>,
    },
}

/// Puts a room in Redis right, and this replica in step with it.
pub(super) struct Update {
    /// Begin to follow the room.
    pub(super) subscribe: bool,
    /// Cease to.
    pub(super) unsubscribe: bool,
    pub(super) changes: Changes,
    /// Tell the state of the room.
    pub(super) state: Option<StateRequest>,
    /// Other ids of this replica, and dead replicas, under which nobody is here any more.
    pub(super) former: Vec<Uuid>,
    /// The last message that was told here, to read what was missed since.
    pub(super) since: Option<StreamId>,
    /// What it tells is only good if nothing was missed in the meantime.
    pub(super) epoch: u64,
}

pub(super) async fn update(context: Arc<Context>, room: RoomName, update: Update) -> Outcome {
    // Only closed with the replica.
    let _permit = context.updates.acquire().await;
    let result = try_to_update(&context, &room, &update).await;
    Outcome::Updated { room, update, result }
}

async fn try_to_update(
    context: &Context,
    room: &RoomName,
    update: &Update,
) -> Result<(Updated, Option<History>), RedisError> {
    let Context { redis, subscriber, lease, .. } = context;
    let until = redis.deadline();
    let lease = lease.current();
    if update.subscribe {
        // Before anybody is there: who evicts this replica must find the room.
        context.notes.take(redis, lease.replica, room, Note::Here, until).await;
        subscriber.subscribe(keys::room(room.as_str()), until).await?;
    }
    let updated = if update.changes.is_empty() && update.state.is_none() {
        Updated { seq: 0, state: None }
    } else {
        presence::update(redis, lease, room, &update.changes, update.state, until).await?
    };
    for former in &update.former {
        presence::evict(redis, room, *former).await?;
        // It may have been noted after somebody else evicted the former one and forgot its rooms.
        context.notes.take(redis, *former, room, Note::Gone, until).await;
    }
    let missed = match update.since {
        Some(since) => Some(history::read(redis, room, since, until).await?.after(since)),
        None => None,
    };
    if update.unsubscribe {
        context.notes.take(redis, lease.replica, room, Note::Gone, until).await;
        // A subscription too many tells what nobody listens to.
        subscriber.unsubscribe(&keys::room(room.as_str())).await;
    }
    Ok((updated, missed))
}

pub(super) async fn look_up(context: Arc<Context>, room: RoomName, it: ToLookUp) -> Outcome {
    let (asked, until) = (it.asked, it.until);
    let turn = async {
        let turn = if it.needs_history {
            Some(context.turns.take(it.connection, it.user_id, until).await.ok_or(RedisError::TooLate)?)
        } else {
            None
        };
        let may_enter = match it.grantee {
            Some(grantee) => grants::holds(&context.redis, grantee, &room, until).await?,
            None => true,
        };
        Ok((may_enter, turn))
    };
    let (result, turn) = match turn.await {
        Ok((may_enter, turn)) => (Ok(may_enter), turn),
        Err(error) => (Err(error), None),
    };
    Outcome::LookedUp { room, asked, result, turn }
}

/// Reads the history for all who wait for it, in the turn of one of them.
pub(super) async fn read(context: Arc<Context>, room: RoomName, it: ToRead, turn: Option<Turn>) -> Outcome {
    let result = history::read(&context.redis, &room, it.from, context.redis.deadline()).await;
    drop(turn);
    Outcome::Read { room, number: it.number, result }
}

pub(super) async fn tell_typing(context: Arc<Context>, room: RoomName, changes: typing::Changes) -> Outcome {
    let until = context.redis.deadline();
    let result = typing::tell(&context.redis, &room, &changes, context.policy.typing_expiry, until).await;
    Outcome::Typed { room, changes, result }
}

pub(super) async fn publish(context: Arc<Context>, request: Request, data: Box<RawValue>) -> Outcome {
    let until = request.pending.since() + context.redis.call_timeout();
    let pace = context.policy.publishes;
    let result = rooms::publish(&context.redis, &request.room, &request.user, &data, pace, until).await;
    Outcome::Published { request, result }
}

pub(super) async fn present(context: Arc<Context>, request: Request) -> Outcome {
    let result = rooms::present(&context.redis, &request.room, context.redis.deadline()).await;
    Outcome::Present { request, result }
}

pub(super) async fn may_enter(context: Arc<Context>, request: Request, grantee: Subject) -> Outcome {
    let result = grants::holds(&context.redis, grantee, &request.room, context.redis.deadline()).await;
    Outcome::MayEnter { request, result }
}

pub(super) async fn may_stay(context: Arc<Context>, room: RoomName, user_id: i64) -> Outcome {
    let _permit = context.updates.acquire().await;
    let result = grants::holds(&context.redis, user_id, &room, context.redis.deadline()).await;
    Outcome::MayStay { room, user_id, result }
}

/// Users as they are listed.
pub(super) fn listed(present: &Present) -> Arc<RawValue> {
    // Numbers and texts always have a form in JSON.
    to_raw_value(&present.users).unwrap_or_default().into()
}
