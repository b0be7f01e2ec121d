//! What was published in a room while somebody was away.

use gatefold_shared::{
    redis::{Redis, RedisError, Script, StreamId, Value, keys},
    rooms::{self, RoomName},
};
use serde_json::value::RawValue;
use tokio::time::Instant;

static HISTORY: Script = Script::new("history", &[rooms::PRELUDE, include_str!("history.lua")]);

/// What came after a message.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The room's last event when it was read.
    pub(super) seq: u64,
    /// Whether this is all that came.
    pub(super) recovered: bool,
    /// In order.
    pub(super) messages: Vec<Published>,
}

/// A message that was published.
#[derive(Clone, Debug)]
pub(super) struct Published {
    pub(super) id: StreamId,
    /// The payload of `message`.
    pub(super) payload: Box<RawValue>,
}

/// What came after the message `since`.
pub(super) async fn since(
    redis: &Redis,
    room: &RoomName,
    since: StreamId,
    until: Instant,
) -> Result<History, RedisError> {
    let arguments = vec![Value::from(since.to_string())];
    let reply: (u64, i64, Vec<Value>) = redis.run(&HISTORY, &keys::of_room(room.as_str()), arguments, until).await?;
    let (seq, recovered, entries) = reply;
    let messages = entries.iter().map(|entry| published(room, entry)).collect::<Option<_>>();
    Ok(History { seq, recovered: recovered == 1, messages: messages.ok_or_else(|| HISTORY.unexpected_reply())? })
}

fn published(room: &RoomName, entry: &Value) -> Option<Published> {
    let Value::Array(entry) = entry else { return None };
    let [id, Value::Array(fields)] = &entry[..] else { return None };
    let [_, user, _, data] = &fields[..] else { return None };
    let (id, user, data) = (id.as_str()?, user.as_str()?, data.as_str()?);
    let at = id.split_once('-')?.0;
    let payload = format!(r#"{{"room":"{room}","id":"{id}","user":{user},"data":{data},"timestamp":{at}}}"#);
    Some(Published { id: id.parse().ok()?, payload: RawValue::from_string(payload).ok()? })
}
