//! Rooms, as far as both kinds of replica know them: their names, who may enter, and what is published there.
//!
//! Everything about a room is in one slot of Redis, so that one script can change it. Each change is an *event* with a
//! number, published on the room's channel by the script that makes it: the ws replicas that have members there follow it.

mod access;
#[cfg(test)]
mod tests;

use std::{borrow::Borrow, fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::Instant;

pub use self::access::{Claim, claimed, may_join};
use crate::{
    limit::Limit,
    redis::{Redis, RedisError, Script, Value, keys, millis},
    trace::{Parent, Span},
};

/// What every script over a room begins with.
pub const PRELUDE: &str = include_str!("rooms/prelude.lua");
static PUBLISH: Script = Script::storing("publish", &[PRELUDE, include_str!("rooms/publish.lua")]);
static PRESENT: Script = Script::new("present", &[PRELUDE, include_str!("rooms/present.lua")]);
static EXPEL: Script = Script::new("expel", &[PRELUDE, include_str!("rooms/expel.lua")]);

/// A list of users has at most so many entries.
pub const MAX_LISTED: usize = 1000;
/// So many messages of a room are kept for those who come back.
const HISTORY: i64 = 100;
/// They are kept for so long.
const HISTORY_FOR: Duration = Duration::from_mins(5);

/// The name of a room: 1 to 128 ASCII letters, digits, `_`, `.`, `:` and `-`. It needs no escaping in JSON or in keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomName(Arc<str>);

impl RoomName {
    /// The longest name, in characters.
    const MAX_LENGTH: usize = 128;

    /// The name, if it is one.
    pub fn parse(name: &str) -> Option<Self> {
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
        ((1..=Self::MAX_LENGTH).contains(&name.len()) && name.bytes().all(is_good)).then(|| Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it takes a grant to enter.
    pub fn is_private(&self) -> bool {
        self.0.starts_with("private:")
    }
}

impl fmt::Display for RoomName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Borrow<str> for RoomName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for RoomName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// A user, as others see them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct User {
    /// The account's id.
    pub id: i64,
    /// The name as its owner types it.
    pub username: Arc<str>,
}

impl User {
    /// Reads how Redis keeps the users of a room: the id, and `<on how many replicas>:<username>`.
    pub fn from_redis(id: &Value, entry: &Value) -> Option<Self> {
        let entry = entry.as_str()?;
        Some(Self { id: id.as_i64()?, username: entry.split_once(':')?.1.into() })
    }

    /// As it stands in messages.
    pub fn to_json(&self) -> String {
        // A number and a text always have a form in JSON.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Who is in a room.
#[derive(Debug, PartialEq, Eq)]
pub struct Present {
    /// How many users.
    pub count: u64,
    /// They, or [`MAX_LISTED`] of them, by id.
    pub users: Vec<User>,
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Publication {
    /// It was published, and has this id.
    Published(String),
    /// It was one too many for the room; after so long there may be one more.
    TooMany(Duration),
}

/// Publishes a message, unless it is beyond the `pace` of the room. After an error it may or may not have been published; it
/// will not be later.
pub async fn publish(
    redis: &Redis,
    room: &RoomName,
    author: &User,
    data: &RawValue,
    pace: Limit,
    until: Instant,
) -> Result<Publication, RedisError> {
    let span = Span::publish();
    let result = span.around(run_publish(redis, room, author, data, pace, until)).await;
    span.end(&result);
    result
}

async fn run_publish(
    redis: &Redis,
    room: &RoomName,
    author: &User,
    data: &RawValue,
    pace: Limit,
    until: Instant,
) -> Result<Publication, RedisError> {
    let keys = keys::of_room(room.as_str());
    // Whoever delivers the message goes on with the trace, if it is recorded.
    let trace = Parent::current().map(|span| span.to_string()).unwrap_or_default();
    let arguments: [Value; 9] = [
        author.id.into(),
        author.to_json().into(),
        data.get().into(),
        room.as_str().into(),
        HISTORY.into(),
        millis(HISTORY_FOR).into(),
        trace.into(),
        i64::try_from(pace.interval_micros()).unwrap_or(i64::MAX).into(),
        i64::from(pace.burst()).into(),
    ];
    let reply = redis.run_in_time(&PUBLISH, &keys, &arguments, until, i64::MAX).await?;
    let publication = match &reply[..] {
        [outcome, id] if outcome.as_i64() == Some(1) => id.as_string().map(Publication::Published),
        [outcome, wait] if outcome.as_i64() == Some(2) => {
            wait.as_u64().map(|wait| Publication::TooMany(Duration::from_millis(wait)))
        }
        _ => None,
    };
    publication.ok_or_else(|| PUBLISH.unexpected_reply())
}

/// Who is in a room, wherever they are connected.
pub async fn present(redis: &Redis, room: &RoomName, until: Instant) -> Result<Present, RedisError> {
    let listed = i64::try_from(MAX_LISTED).unwrap_or(i64::MAX);
    let reply: (u64, Vec<Value>) =
        redis.run(&PRESENT, &keys::of_room(room.as_str()), vec![listed.into()], until).await?;
    let users = reply.1.chunks_exact(2).map(|entry| User::from_redis(&entry[0], &entry[1]));
    let mut users = users.collect::<Option<Vec<_>>>().ok_or_else(|| PRESENT.unexpected_reply())?;
    users.sort_unstable_by_key(|user| user.id);
    Ok(Present { count: reply.0, users })
}

/// Ends a user's membership of a room, on whichever replicas it is.
pub async fn expel(redis: &Redis, room: &RoomName, user_id: i64, until: Instant) -> Result<(), RedisError> {
    let reply: Vec<i64> = redis.run(&EXPEL, &keys::of_room(room.as_str()), vec![user_id.into()], until).await?;
    if reply == [1] { Ok(()) } else { Err(EXPEL.unexpected_reply()) }
}
