//! The messages, as they travel: one JSON object in a text frame.

use std::{borrow::Cow, sync::Arc};

use gatefold_shared::{
    redis::StreamId,
    rooms::{RoomName, User},
};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Number, Value, value::RawValue};

/// Largest message that is read, in bytes.
pub(crate) const MAX_MESSAGE: usize = 16 * 1024;

/// What a client calls a message of its; it comes back with the answer.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(untagged)]
pub(crate) enum MessageId {
    Text(Box<str>),
    Number(Number),
}

/// What a client can ask for.
pub(crate) enum ClientMessage<'a> {
    /// `{type:"ping"}`
    Ping,
    /// `{type:"auth",access}`, as the first message of a socket that was opened without a token.
    Auth { access: Cow<'a, str> },
    /// `{type:"reauth",access}`
    Reauth { access: Cow<'a, str> },
    /// A type that is about a room.
    InRoom { room: Cow<'a, str>, request: RoomRequest<'a> },
    /// A type that we do not know.
    Unknown,
}

/// What a client can ask for about a room.
#[derive(Clone, Copy)]
pub(crate) enum RoomRequest<'a> {
    /// `{type:"join",room,since?}`
    Join { since: Option<StreamId> },
    /// `{type:"leave",room}`
    Leave,
    /// `{type:"publish",room,data}`
    Publish { data: &'a RawValue },
    /// `{type:"typing",room,typing}`
    Typing { typing: bool },
    /// `{type:"presence",room}`
    Presence,
}

impl RoomRequest<'_> {
    /// Its type, for metrics and traces.
    pub(crate) const fn label(&self) -> &'static str {
        match self {
            Self::Join { .. } => "join",
            Self::Leave => "leave",
            Self::Publish { .. } => "publish",
            Self::Typing { .. } => "typing",
            Self::Presence => "presence",
        }
    }
}

impl ClientMessage<'_> {
    /// The type as a label of metrics: a client must not be able to make up new ones.
    pub(crate) const fn label(&self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Auth { .. } => "auth",
            Self::Reauth { .. } => "reauth",
            Self::InRoom { request, .. } => request.label(),
            Self::Unknown => "unknown",
        }
    }
}

/// A message that came in: what it asks for, or nothing if it is not JSON or a field is missing or of the wrong type.
pub(crate) struct Envelope<'a> {
    pub(crate) id: Option<MessageId>,
    pub(crate) message: Option<ClientMessage<'a>>,
}

/// What all messages have, in whatever type it came.
#[derive(Deserialize)]
struct Head {
    r#type: Option<Value>,
    id: Option<Value>,
}

#[derive(Deserialize)]
struct Access<'a> {
    #[serde(borrow)]
    access: Cow<'a, str>,
}

/// What messages about rooms have.
#[derive(Deserialize)]
struct InRoom<'a> {
    #[serde(borrow)]
    room: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "some")]
    data: Option<&'a RawValue>,
    since: Option<Cow<'a, str>>,
    typing: Option<bool>,
}

/// A field that is there, whatever it holds: `null` is something to publish.
fn some<'de, D: Deserializer<'de>>(field: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(field).map(Some)
}

/// Reads a message. The `id` is found also in one that is otherwise wrong, so that its error can be told apart.
pub(crate) fn parse(text: &str) -> Envelope<'_> {
    // An array of two would pass for the object.
    let head = text.trim_ascii_start().starts_with('{').then(|| serde_json::from_str::<Head>(text).ok()).flatten();
    let Some(head) = head else { return Envelope { id: None, message: None } };
    let (id, id_is_good) = match head.id {
        None | Some(Value::Null) => (None, true),
        Some(Value::String(id)) => (Some(MessageId::Text(id.into())), true),
        Some(Value::Number(id)) => (Some(MessageId::Number(id)), true),
        Some(_) => (None, false),
    };
    let kind = head.r#type.as_ref().and_then(Value::as_str).filter(|_| id_is_good);
    Envelope { id, message: kind.and_then(|kind| body(kind, text)) }
}

fn body<'a>(kind: &str, text: &'a str) -> Option<ClientMessage<'a>> {
    let access = || serde_json::from_str::<Access>(text).ok().map(|body| body.access);
    match kind {
        "ping" => Some(ClientMessage::Ping),
        "auth" => access().map(|access| ClientMessage::Auth { access }),
        "reauth" => access().map(|access| ClientMessage::Reauth { access }),
        "join" | "leave" | "publish" | "typing" | "presence" => {
            let InRoom { room, data, since, typing } = serde_json::from_str(text).ok()?;
            let request = match kind {
                "join" => RoomRequest::Join { since: since.map(|id| id.parse()).transpose().ok()? },
                "leave" => RoomRequest::Leave,
                "publish" => RoomRequest::Publish { data: data? },
                "typing" => RoomRequest::Typing { typing: typing? },
                _ => RoomRequest::Presence,
            };
            Some(ClientMessage::InRoom { room, request })
        }
        _ => Some(ClientMessage::Unknown),
    }
}

/// What goes wrong without ending the socket: one table of codes and words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorCode {
    InvalidMessage,
    UnknownType,
    NotJoined,
    InvalidRoom,
    ForbiddenRoom,
    TooManyRooms,
    RateLimited,
    TokenExpired,
    ReauthFailed,
    Unavailable,
}

impl ErrorCode {
    const fn code_and_message(self) -> (&'static str, &'static str) {
        match self {
            Self::InvalidMessage => ("invalid_message", "Not a JSON object with the fields that its type needs"),
            Self::UnknownType => ("unknown_type", "There is no such type of message"),
            Self::NotJoined => ("not_joined", "Join the room first"),
            Self::InvalidRoom => ("invalid_room", "A room is named by 1 to 128 letters, digits and _ . : -"),
            Self::ForbiddenRoom => ("forbidden_room", "You may not enter this room"),
            Self::TooManyRooms => ("too_many_rooms", "You are in 100 rooms already: leave one first"),
            Self::RateLimited => ("rate_limited", "Too many messages, please slow down"),
            Self::TokenExpired => ("token_expired", "The access token has expired, please reauthenticate"),
            Self::Unavailable => ("unavailable", "Temporarily unavailable, please try again"),
            Self::ReauthFailed => ("reauth_failed", "The access token is not valid, please reauthenticate"),
        }
    }

    const fn requires_reauth(self) -> bool {
        matches!(self, Self::TokenExpired | Self::ReauthFailed)
    }
}

/// What became of somebody's presence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PresenceEvent {
    /// They are here, and were not before.
    Join,
    /// They are not here any more.
    Leave,
}

/// What we tell a client. Times are in milliseconds since 1970.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", content = "payload", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub(crate) enum ServerMessage {
    /// First of all.
    Connected { user_id: i64, username: Arc<str>, expires_at: u64, connection_id: uuid::Uuid, replica: uuid::Uuid },
    /// Answers `ping`.
    Pong { timestamp: u64 },
    /// Answers `reauth`.
    ReauthSuccess { expires_at: u64 },
    /// The token will expire soon.
    TokenExpiring { expires_at: u64 },
    /// Answers `join`; unasked if messages were lost on their way here.
    Joined {
        room: RoomName,
        count: u64,
        users: Arc<RawValue>,
        typing: Vec<User>,
        messages: Vec<Box<RawValue>>,
        recovered: bool,
        /// The id of the room's last message, to come back with for whoever has not seen any.
        last: String,
    },
    /// Answers `leave`; unasked if the user may not be in the room any more.
    Left { room: RoomName },
    /// Answers `publish`.
    Published { room: RoomName, id: String },
    /// Answers `presence`.
    PresenceState { room: RoomName, count: u64, users: Arc<RawValue> },
    /// Somebody arrived first or departed last.
    Presence { room: RoomName, event: PresenceEvent, user: User },
    /// Somebody began to type, and does so until then unless more is heard, or stopped.
    Typing { room: RoomName, user: User, typing: bool, until: u64 },
    /// The replica is going away: the socket will be closed in so many milliseconds.
    Reconnect { after: u64 },
    /// A message was not served, or the token has expired.
    Error { code: &'static str, message: &'static str, require_reauth: bool },
}

impl ServerMessage {
    pub(crate) const fn error(error: ErrorCode) -> Self {
        let (code, message) = error.code_and_message();
        Self::Error { code, message, require_reauth: error.requires_reauth() }
    }

    /// What became of the message that this answers, as a label of metrics.
    pub(crate) const fn result(&self) -> &'static str {
        match self {
            Self::Error { code, .. } => code,
            _ => "ok",
        }
    }

    /// The message as it is sent, with the `id` of the message that it answers.
    pub(crate) fn to_json(&self, id: Option<&MessageId>) -> String {
        #[derive(Serialize)]
        struct Answer<'a> {
            #[serde(flatten)]
            message: &'a ServerMessage,
            #[serde(skip_serializing_if = "Option::is_none")]
            id: Option<&'a MessageId>,
        }
        serde_json::to_string(&Answer { message: self, id }).unwrap_or_default()
    }
}

/// `message`: somebody published something in a room, as `payload` tells.
pub(crate) fn message(payload: &RawValue) -> String {
    format!(r#"{{"type":"message","payload":{payload}}}"#)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_are_read_with_or_without_an_id_and_whatever_else_they_hold() {
        assert!(matches!(parse(r#"{"type":"ping"}"#).message, Some(ClientMessage::Ping)));
        let reauth = parse(r#" {"later":[1],"type":"reauth","access":"a\u002eb"}"#).message;
        assert!(matches!(reauth, Some(ClientMessage::Reauth { access }) if access == "a.b"));
        assert!(matches!(parse(r#"{"type":"dance"}"#).message, Some(ClientMessage::Unknown)));
        assert_eq!(parse(r#"{"type":"ping","id":"a"}"#).id, Some(MessageId::Text("a".into())));
        assert_eq!(parse(r#"{"type":"ping","id":7}"#).id, Some(MessageId::Number(7.into())));
        assert_eq!(parse(r#"{"type":"ping","id":null}"#).id, None);
    }

    #[test]
    fn messages_about_rooms_need_a_room_and_what_is_asked_for() {
        let request = |text| match parse(text).message {
            Some(ClientMessage::InRoom { room, request }) => Some((room, request)),
            _ => None,
        };
        let data = request(r#"{"type":"publish","room":"a\u0062","data": {"x": [1.0]} }"#);
        assert!(
            matches!(data, Some((room, RoomRequest::Publish { data })) if room == "ab" && data.get() == r#"{"x": [1.0]}"#)
        );
        let null = request(r#"{"type":"publish","room":"a","data":null}"#);
        assert!(matches!(null, Some((_, RoomRequest::Publish { data })) if data.get() == "null"));
        let join = request(r#"{"type":"join","room":"a","since":"17-2","typing":true}"#);
        assert!(matches!(join, Some((_, RoomRequest::Join { since: Some(StreamId(17, 2)) }))));
        for text in [
            r#"{"type":"join"}"#,
            r#"{"type":"join","room":7}"#,
            r#"{"type":"join","room":"a","since":7}"#,
            r#"{"type":"join","room":"a","since":"+1-1"}"#,
            r#"{"type":"join","room":"a","since":"1"}"#,
            r#"{"type":"join","room":"a","since":"1-18446744073709551615"}"#,
            r#"{"type":"publish","room":"a"}"#,
            r#"{"type":"typing","room":"a"}"#,
            r#"{"type":"typing","room":"a","typing":1}"#,
        ] {
            assert!(parse(text).message.is_none(), "{text}");
        }
    }

    #[test]
    fn answers_about_rooms_look_as_in_the_contract() {
        let room = RoomName::parse("lobby").expect("a name");
        let user = User { id: 7, username: "grace".into() };
        let users: Arc<RawValue> = serde_json::value::to_raw_value(&[&user]).expect("JSON").into();
        let message = RawValue::from_string(r#"{"room":"lobby","id":"1-0"}"#.to_owned()).expect("JSON");
        let joined = ServerMessage::Joined {
            room: room.clone(),
            count: 1,
            users,
            typing: vec![user.clone()],
            messages: vec![message.clone()],
            recovered: true,
            last: "1-0".to_owned(),
        };
        insta::assert_snapshot!(joined.to_json(Some(&MessageId::Number(7.into()))), @r#"{"type":"joined","payload":{"room":"lobby","count":1,"users":[{"id":7,"username":"grace"}],"typing":[{"id":7,"username":"grace"}],"messages":[{"room":"lobby","id":"1-0"}],"recovered":true,"last":"1-0"},"id":7}"#);
        let presence = ServerMessage::Presence { room: room.clone(), event: PresenceEvent::Leave, user: user.clone() };
        insta::assert_snapshot!(presence.to_json(None), @r#"{"type":"presence","payload":{"room":"lobby","event":"leave","user":{"id":7,"username":"grace"}}}"#);
        let typing = ServerMessage::Typing { room, user, typing: true, until: 5 };
        insta::assert_snapshot!(typing.to_json(None), @r#"{"type":"typing","payload":{"room":"lobby","user":{"id":7,"username":"grace"},"typing":true,"until":5}}"#);
        insta::assert_snapshot!(super::message(&message), @r#"{"type":"message","payload":{"room":"lobby","id":"1-0"}}"#);
    }

    #[test]
    fn what_is_no_message_is_invalid_and_still_gives_its_id() {
        for text in [
            "",
            "ping",
            "[]",
            r#"["ping",1]"#,
            "\"ping\"",
            "{}",
            r#"{"type":1}"#,
            r#"{"type":"ping""#,
            r#"{"type":"ping","type":"ping"}"#,
            r#"{"type":"ping","id":[1]}"#,
            r#"{"type":"ping","id":1e999}"#,
            r#"{"type":"ping"} {}"#,
        ] {
            let envelope = parse(text);
            assert!(envelope.message.is_none() && envelope.id.is_none(), "{text}");
        }
        for text in [r#"{"type":"reauth","id":1}"#, r#"{"type":"reauth","id":1,"access":2}"#, r#"{"id":1}"#] {
            let envelope = parse(text);
            assert!(envelope.message.is_none() && envelope.id == Some(MessageId::Number(1.into())), "{text}");
        }
    }

    #[test]
    fn answers_look_as_in_the_contract() {
        let error = ServerMessage::error(ErrorCode::TokenExpired);
        insta::assert_snapshot!(error.to_json(None), @r#"{"type":"error","payload":{"code":"token_expired","message":"The access token has expired, please reauthenticate","requireReauth":true}}"#);
        let pong = ServerMessage::Pong { timestamp: 1 };
        insta::assert_snapshot!(pong.to_json(Some(&MessageId::Text("a\"b".into()))), @r#"{"type":"pong","payload":{"timestamp":1},"id":"a\"b"}"#);
        insta::assert_snapshot!(pong.to_json(Some(&MessageId::Number(7.into()))), @r#"{"type":"pong","payload":{"timestamp":1},"id":7}"#);
        let connected = ServerMessage::Connected {
            user_id: 1,
            username: "alice".into(),
            expires_at: 2,
            connection_id: uuid::Uuid::nil(),
            replica: uuid::Uuid::nil(),
        };
        insta::assert_snapshot!(connected.to_json(None), @r#"{"type":"connected","payload":{"userId":1,"username":"alice","expiresAt":2,"connectionId":"00000000-0000-0000-0000-000000000000","replica":"00000000-0000-0000-0000-000000000000"}}"#);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in any::<String>()) {
            parse(&text);
            parse(&format!("{{{text}"));
        }
    }
}
