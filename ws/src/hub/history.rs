//! What was published in a room while somebody was away.

use gatefold_shared::{
    redis::{Redis, RedisError, Script, StreamId, Value, keys},
    rooms::{self, RoomName},
};
use serde_json::value::RawValue;
use tokio::time::Instant;

static HISTORY: Script = Script::new("history", &[rooms::PRELUDE, include_str!("history.lua")]);

/// What is read of a history at most: the newest messages, in bytes of users and data.
pub(crate) const MAX_READ: i64 = 256 * 1024;

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

/// The newest messages of a room, as they were read once. It answers what came after any message from `from` on.
#[derive(Debug)]
pub(super) struct Page {
    /// The room's last event; 0 if Redis knows nothing of the room.
    pub(super) seq: u64,
    pub(super) from: StreamId,
    /// Up to this id messages may be missing from the history.
    pub(super) gone: StreamId,
    /// The id of the last message.
    pub(super) last: StreamId,
    /// Whether it begins with `from`, or else where [`MAX_READ`] was reached.
    pub(super) is_whole: bool,
    /// In order.
    pub(super) messages: Vec<Published>,
}

impl Page {
    /// What came after the message `since`. It is all that came only if the message is one that Redis knows: of any other one
    /// it is not known what was lost with it.
    pub(super) fn after(&self, since: StreamId) -> History {
        let first = self.messages.partition_point(|message| message.id <= since);
        let is_listed = first.checked_sub(1).is_some_and(|before| self.messages[before].id == since);
        let is_known = is_listed || since == self.last || (since == self.gone && self.is_whole);
        let recovered = self.seq > 0 && since >= self.gone && is_known;
        History { seq: self.seq, recovered, messages: self.messages[first..].to_vec() }
    }
}

/// Reads the newest messages, from the message `from` on.
pub(super) async fn read(redis: &Redis, room: &RoomName, from: StreamId, until: Instant) -> Result<Page, RedisError> {
    let arguments = vec![Value::from(from.to_string()), MAX_READ.into()];
    let reply: (u64, String, String, i64, Vec<Value>) =
        redis.run(&HISTORY, &keys::of_room(room.as_str()), arguments, until).await?;
    let (seq, gone, last, is_whole, entries) = reply;
    let unexpected = || HISTORY.unexpected_reply();
    let messages = entries.iter().rev().map(|entry| published(room, entry)).collect::<Option<_>>();
    Ok(Page {
        seq,
        from,
        gone: gone.parse().map_err(|()| unexpected())?,
        last: last.parse().map_err(|()| unexpected())?,
        is_whole: is_whole == 1,
        messages: messages.ok_or_else(unexpected)?,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn page(is_whole: bool) -> Page {
        let published = |id| Published { id: StreamId(id, 0), payload: RawValue::from_string("1".into()).unwrap() };
        let messages = [5, 7, 9].map(published).into();
        Page { seq: 1, from: StreamId(3, 0), gone: StreamId(3, 0), last: StreamId(9, 0), is_whole, messages }
    }

    fn after(page: &Page, since: u64) -> (bool, Vec<u64>) {
        let history = page.after(StreamId(since, 0));
        (history.recovered, history.messages.iter().map(|message| message.id.0).collect())
    }

    #[test]
    fn one_page_answers_everybody_who_knows_a_message_in_it_or_the_marker_before_it() {
        let page = page(true);
        for (since, recovered, messages) in [
            (2, false, vec![5, 7, 9]),
            (3, true, vec![5, 7, 9]),
            (5, true, vec![7, 9]),
            (7, true, vec![9]),
            (9, true, vec![]),
            // Messages that Redis has lost.
            (6, false, vec![7, 9]),
            (10, false, vec![]),
        ] {
            assert_eq!(after(&page, since), (recovered, messages), "{since}");
        }
    }

    #[test]
    fn a_page_that_was_cut_is_not_all_for_whom_it_does_not_reach() {
        let page = page(false);
        assert_eq!(after(&page, 3), (false, vec![5, 7, 9]));
        assert_eq!(after(&page, 5), (true, vec![7, 9]));
    }
}
