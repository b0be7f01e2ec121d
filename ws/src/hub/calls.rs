//! What shards ask of Redis. Each call is bounded in time, and comes back to its shard as an outcome.

use std::sync::Arc;

use gatefold_shared::{
    grants,
    redis::{RedisError, StreamId, keys},
    rooms::{self, Present, RoomName},
};
use serde_json::value::{RawValue, to_raw_value};
use uuid::Uuid;

use super::{
    Context, Request,
    history::{self, History},
    notes::Note,
    typing,
};
use crate::presence::{self, Changes, Updated};

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
        result: Result<LookedUp, RedisError>,
    },
    Typed {
        room: RoomName,
        changes: typing::Changes,
        result: Result<(), RedisError>,
    },
    Published {
        request: Request,
        result: Result<String, RedisError>,
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
    pub(super) tell_state: bool,
    /// Other ids of this replica, under which nobody is here any more.
    pub(super) former: Vec<Uuid>,
    /// The last message that was told here, to read what was missed since.
    pub(super) since: Option<StreamId>,
    /// What it tells is only good if nothing was missed in the meantime.
    pub(super) epoch: u64,
}

/// What somebody who joins has to wait for.
#[derive(Debug)]
pub(super) struct LookedUp {
    pub(super) may_enter: bool,
    pub(super) history: Option<History>,
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
    let updated = presence::update(redis, lease, room, &update.changes, update.tell_state, until).await?;
    for former in &update.former {
        presence::evict(redis, room, *former).await?;
        // It may have been noted after somebody else evicted the former one and forgot its rooms.
        context.notes.take(redis, *former, room, Note::Gone, until).await;
    }
    let missed = match update.since {
        Some(since) => Some(history::since(redis, room, since, until).await?),
        None => None,
    };
    if update.unsubscribe {
        context.notes.take(redis, lease.replica, room, Note::Gone, until).await;
        // A subscription too many tells what nobody listens to.
        subscriber.unsubscribe(&keys::room(room.as_str())).await;
    }
    Ok((updated, missed))
}

pub(super) async fn look_up(
    context: Arc<Context>,
    room: RoomName,
    asked: u64,
    needs_grant: Option<i64>,
    since: Option<StreamId>,
) -> Outcome {
    let until = context.redis.deadline();
    let result = async {
        let may_enter = match needs_grant {
            Some(user_id) => grants::holds(&context.redis, user_id, &room, until).await?,
            None => true,
        };
        let history = match since {
            Some(since) if may_enter => Some(history::since(&context.redis, &room, since, until).await?),
            _ => None,
        };
        Ok(LookedUp { may_enter, history })
    };
    let result = result.await;
    Outcome::LookedUp { room, asked, result }
}

pub(super) async fn tell_typing(context: Arc<Context>, room: RoomName, changes: typing::Changes) -> Outcome {
    let until = context.redis.deadline();
    let result = typing::tell(&context.redis, &room, &changes, context.policy.typing_expiry, until).await;
    Outcome::Typed { room, changes, result }
}

pub(super) async fn publish(context: Arc<Context>, request: Request, data: Box<RawValue>) -> Outcome {
    let until = context.redis.deadline();
    let result = rooms::publish(&context.redis, &request.room, &request.user, &data, until).await;
    Outcome::Published { request, result }
}

pub(super) async fn present(context: Arc<Context>, request: Request) -> Outcome {
    let result = rooms::present(&context.redis, &request.room, context.redis.deadline()).await;
    Outcome::Present { request, result }
}

pub(super) async fn may_enter(context: Arc<Context>, request: Request) -> Outcome {
    let (user_id, until) = (request.user.id, context.redis.deadline());
    let result = grants::holds(&context.redis, user_id, &request.room, until).await;
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
