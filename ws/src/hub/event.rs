//! An event of a room, as the scripts publish it.

use gatefold_shared::rooms::User;
use serde::Deserialize;
use serde_json::value::RawValue;

/// See the module. Parts that a kind of event does not have are empty.
#[derive(Deserialize)]
pub(super) struct Event<'a> {
    /// One more than that of the event before.
    pub(super) seq: u64,
    #[serde(default)]
    pub(super) join: Listed,
    #[serde(default)]
    pub(super) leave: Listed,
    #[serde(default)]
    pub(super) typing: Vec<Typist>,
    /// Who does not type any more.
    #[serde(default)]
    pub(super) stopped: Vec<i64>,
    /// The id of the message.
    pub(super) id: Option<&'a str>,
    /// The payload of `message`, ready to be sent.
    #[serde(borrow)]
    pub(super) message: Option<&'a RawValue>,
    /// The trace of whoever published the message, if it is recorded.
    pub(super) trace: Option<&'a str>,
    /// Who may not be in the room any more.
    pub(super) expel: Option<i64>,
}

/// Users.
pub(super) type Listed = Vec<User>;

/// Who types, and until when in milliseconds since 1970.
#[derive(Deserialize)]
pub(super) struct Typist {
    pub(super) user: User,
    pub(super) until: u64,
}

impl<'a> Event<'a> {
    /// The event, if it is one.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_as_the_scripts_write_them() {
        let event = Event::parse(r#"{"seq":9,"join":[{"id":1,"username":"a"}],"leave":[]}"#).expect("an event");
        assert_eq!((event.seq, event.join), (9, vec![User { id: 1, username: "a".into() }]));
        let event = Event::parse(r#"{"seq":9,"stopped":[7],"id":"1-0","message":{"data": [1 ]}}"#).expect("an event");
        assert_eq!((event.stopped, event.id), (vec![7], Some("1-0")));
        assert_eq!(event.message.map(RawValue::get), Some(r#"{"data": [1 ]}"#), "as it is");
        assert!(Event::parse("{}").is_none());
    }
}
