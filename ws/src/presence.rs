//! Who is in which room, as Redis knows it: for every ws replica the users who are there through it, and for every user
//! on how many replicas. Arrivals and departures are published by the scripts that make them so.
//!
//! A replica says who is there as often as it likes, since saying it again changes nothing. What it said counts as long as
//! its *lease*, which costs one command every few seconds, however many connections there are.

pub(crate) mod eviction;
pub(crate) mod lease;
pub(crate) mod replicas;

use gatefold_shared::{
    redis::{Redis, RedisError, Script, StreamId, Value, keys},
    rooms::{self, RoomName, User},
};
use tokio::time::Instant;
use uuid::Uuid;

use self::lease::Term;

const PRELUDE: &str = include_str!("presence/prelude.lua");
static UPDATE: Script = Script::new("update_presence", &[rooms::PRELUDE, PRELUDE, include_str!("presence/update.lua")]);
static EVICT: Script = Script::new("evict", &[rooms::PRELUDE, PRELUDE, include_str!("presence/evict.lua")]);

/// Users that one script evicts; more would hold up Redis.
const EVICTED_AT_ONCE: i64 = 500;

/// What a replica has to say about the users who are in a room through it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// The arrivals are all that there are, and whatever else Redis knows is wrong.
    pub(crate) exact: bool,
    pub(crate) arrivals: Vec<User>,
    pub(crate) departures: Vec<i64>,
}

impl Changes {
    /// Whether there is nothing to say.
    pub(crate) fn is_empty(&self) -> bool {
        !self.exact && self.arrivals.is_empty() && self.departures.is_empty()
    }
}

/// What Redis answers.
#[derive(Debug)]
pub(crate) struct Updated {
    /// The room's last event.
    pub(crate) seq: u64,
    /// The room after that event, if it was asked for.
    pub(crate) state: Option<RoomState>,
}

/// A room in Redis.
#[derive(Debug, Default)]
pub(crate) struct RoomState {
    /// Messages are news if they are later than this.
    pub(crate) last_message: Option<StreamId>,
    pub(crate) users: Vec<User>,
    /// Who types, until when in milliseconds since 1970.
    pub(crate) typing: Vec<(i64, u64)>,
    /// Through which replicas users are there; those of version 0.1 may be missing.
    pub(crate) replicas: Vec<Uuid>,
}

/// What is asked of Redis beside the changes: the state of the room, as a replica that knows of a certain message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StateRequest {
    /// If Redis does not know it any more, it has lost messages, and remembers so from then on.
    pub(crate) known_message: Option<StreamId>,
}

fn keys_of(room: &RoomName, replica: Uuid) -> Vec<String> {
    let mut keys = keys::of_room(room.as_str());
    keys.extend([keys::room_members(room.as_str(), replica), keys::room_replicas(room.as_str())]);
    keys
}

/// Says who is in a room through this replica, which has a lease until then. After an error Redis may have heard it or not;
/// it will not hear it later.
pub(crate) async fn update(
    redis: &Redis,
    lease: Term,
    room: &RoomName,
    changes: &Changes,
    state: Option<StateRequest>,
    until: Instant,
) -> Result<Updated, RedisError> {
    let (keys, arguments) = (keys_of(room, lease.replica), arguments(changes, state));
    let reply = redis.run_in_time(&UPDATE, &keys, &arguments, until, lease.ends).await?;
    match &reply[..] {
        [outcome, seq, told] if outcome.as_i64() == Some(1) => {
            let state = state.map(|_| read_state(told).ok_or_else(|| UPDATE.unexpected_reply())).transpose()?;
            Ok(Updated { seq: seq.as_u64().ok_or_else(|| UPDATE.unexpected_reply())?, state })
        }
        _ => Err(UPDATE.unexpected_reply()),
    }
}

fn arguments(changes: &Changes, state: Option<StateRequest>) -> Vec<Value> {
    let flag = |it| Value::from(if it { "1" } else { "0" });
    let known_message = state.and_then(|state| state.known_message).map(|id| id.to_string()).unwrap_or_default();
    let mut arguments = vec![
        flag(changes.exact),
        flag(state.is_some()),
        known_message.into(),
        i64::try_from(changes.arrivals.len()).unwrap_or(i64::MAX).into(),
    ];
    for user in &changes.arrivals {
        arguments.extend([Value::from(user.id), Value::from(&*user.username)]);
    }
    arguments.extend(changes.departures.iter().map(|&user_id| Value::from(user_id)));
    arguments
}

fn read_state(state: &Value) -> Option<RoomState> {
    let Value::Array(parts) = state else { return None };
    let [last_message, Value::Array(users), Value::Array(typing), Value::Array(replicas)] = &parts[..] else {
        return None;
    };
    let typing = typing.chunks_exact(2).map(|entry| Some((entry[0].as_i64()?, millis(&entry[1])?)));
    Some(RoomState {
        last_message: Some(last_message.as_str()?.parse().ok()?),
        users: users.chunks_exact(2).map(|entry| User::from_redis(&entry[0], &entry[1])).collect::<Option<_>>()?,
        typing: typing.collect::<Option<_>>()?,
        replicas: replicas.iter().filter_map(|replica| replica.as_str()?.parse().ok()).collect(),
    })
}

/// A score of a sorted set, which is text on the way.
fn millis(score: &Value) -> Option<u64> {
    let score = score.as_f64()?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "milliseconds since 1970")]
    Some(score as u64)
}

/// Removes all users of a dead replica from a room.
pub(crate) async fn evict(redis: &Redis, room: &RoomName, dead: Uuid) -> Result<(), RedisError> {
    loop {
        let left: Vec<i64> =
            redis.run(&EVICT, &keys_of(room, dead), vec![EVICTED_AT_ONCE.into()], redis.deadline()).await?;
        if left == [0] {
            return Ok(());
        }
    }
}
