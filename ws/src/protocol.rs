//! The messages, as they travel: one JSON object in a text frame.

use std::{borrow::Cow, sync::Arc, time::Duration};

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
    InvalidData,
    ForbiddenRoom,
    TooManyRooms,
    RateLimited,
    /// Beyond what a user may do, or what a room takes; in so many seconds it may be tried again.
    OverBudget {
        retry_after: u64,
    },
    TokenExpired,
    ReauthFailed,
    Unavailable,
}

impl ErrorCode {
    /// Beyond a budget for so long.
    pub(crate) fn over_budget(wait: Duration) -> Self {
        Self::OverBudget { retry_after: wait.as_secs() + u64::from(wait.subsec_nanos() > 0) }
    }

    const fn code_and_message(self) -> (&'static str, &'static str) {
        match self {
            Self::InvalidMessage => ("invalid_message", "Not a JSON object with the fields that its type needs"),
            Self::UnknownType => ("unknown_type", "There is no such type of message"),
            Self::NotJoined => ("not_joined", "Join the room first"),
            Self::InvalidRoom => ("invalid_room", "A room is named by 1 to 128 letters, digits and _ . : -"),
            Self::InvalidData => (
                "invalid_data",
                "`data` is nested deeper than 32 levels, or has a number too large for a double, or a lone surrogate",
            ),
            Self::ForbiddenRoom => ("forbidden_room", "You may not enter this room"),
            Self::TooManyRooms => ("too_many_rooms", "You are in 100 rooms already: leave one first"),
            Self::RateLimited => ("rate_limited", "Too many messages, please slow down"),
            Self::OverBudget { .. } => ("rate_limited", "Too much at once from you or in this room, try again later"),
            Self::TokenExpired => ("token_expired", "The access token has expired, please reauthenticate"),
            Self::Unavailable => ("unavailable", "Temporarily unavailable, please try again"),
            Self::ReauthFailed => ("reauth_failed", "The access token is not valid, please reauthenticate"),
        }
    }

    const fn retry_after(self) -> Option<u64> {
        match self {
            Self::OverBudget { retry_after } => Some(retry_after),
            _ => None,
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
    Error {
        code: &'static str,
        message: &'static str,
        require_reauth: bool,
        /// In seconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after: Option<u64>,
    },
}

impl ServerMessage {
    pub(crate) const fn error(error: ErrorCode) -> Self {
        let (code, message) = error.code_and_message();
        let (require_reauth, retry_after) = (error.requires_reauth(), error.retry_after());
        Self::Error { code, message, require_reauth, retry_after }
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
mod tests;
