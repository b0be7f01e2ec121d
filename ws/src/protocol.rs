//! The messages, as they travel: one JSON object in a text frame.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

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
#[derive(PartialEq)]
pub(crate) enum ClientMessage<'a> {
    /// `{type:"ping"}`
    Ping,
    /// `{type:"auth",access}`, as the first message of a socket that was opened without a token.
    Auth { access: Cow<'a, str> },
    /// `{type:"reauth",access}`
    Reauth { access: Cow<'a, str> },
    /// A type that we do not know.
    Unknown,
}

impl ClientMessage<'_> {
    /// The type as a label of metrics: a client must not be able to make up new ones.
    pub(crate) const fn label(&self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Auth { .. } => "auth",
            Self::Reauth { .. } => "reauth",
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
        _ => Some(ClientMessage::Unknown),
    }
}

/// What goes wrong without ending the socket: one table of codes and words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorCode {
    InvalidMessage,
    UnknownType,
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

/// What we tell a client. Times are in milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", content = "payload", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub(crate) enum ServerMessage {
    /// First of all.
    Connected { user_id: i64, username: std::sync::Arc<str>, expires_at: u64, connection_id: uuid::Uuid },
    /// Answers `ping`.
    Pong { timestamp: u64 },
    /// Answers `reauth`.
    ReauthSuccess { expires_at: u64 },
    /// The token will expire soon.
    TokenExpiring { expires_at: u64 },
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reauth(access: &str) -> ClientMessage<'_> {
        ClientMessage::Reauth { access: access.into() }
    }

    #[test]
    fn messages_are_read_with_or_without_an_id_and_whatever_else_they_hold() {
        assert!(parse(r#"{"type":"ping"}"#).message == Some(ClientMessage::Ping));
        assert!(parse(r#" {"later":[1],"type":"reauth","access":"a\u002eb"}"#).message == Some(reauth("a.b")));
        assert!(parse(r#"{"type":"dance"}"#).message == Some(ClientMessage::Unknown));
        assert_eq!(parse(r#"{"type":"ping","id":"a"}"#).id, Some(MessageId::Text("a".into())));
        assert_eq!(parse(r#"{"type":"ping","id":7}"#).id, Some(MessageId::Number(7.into())));
        assert_eq!(parse(r#"{"type":"ping","id":null}"#).id, None);
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
        };
        insta::assert_snapshot!(connected.to_json(None), @r#"{"type":"connected","payload":{"userId":1,"username":"alice","expiresAt":2,"connectionId":"00000000-0000-0000-0000-000000000000"}}"#);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in any::<String>()) {
            parse(&text);
            parse(&format!("{{{text}"));
        }
    }
}
