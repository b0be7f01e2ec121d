//! What a server says on a socket, read in one pass and without copying: there may be a hundred thousand a second.

use std::borrow::Cow;

use serde::Deserialize;

use crate::failure::Failure;

/// One message.
#[derive(Debug, Deserialize)]
pub(crate) struct Frame<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    id: Option<u64>,
    #[serde(borrow, default)]
    payload: Payload<'a>,
}

/// What the payloads hold that the harness looks at.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Payload<'a> {
    /// Of an error.
    #[serde(borrow)]
    code: Option<Cow<'a, str>>,
    /// Whom it is about.
    pub(crate) user: Option<Who>,
    /// Of presence: join or leave.
    #[serde(borrow)]
    pub(crate) event: Option<Cow<'a, str>>,
    /// Of typing: begins or ends.
    pub(crate) typing: Option<Typing>,
    /// Of a message: what the harness published.
    pub(crate) data: Option<Data>,
}

/// A user in a payload.
#[derive(Debug, Deserialize)]
pub(crate) struct Who {
    pub(crate) id: i64,
}

/// In an event it is a flag, in the answer to `join` a list of users.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Typing {
    Flag(bool),
    List(serde::de::IgnoredAny),
}

/// What the harness publishes.
#[derive(Debug, Deserialize)]
pub(crate) struct Data {
    /// The intended start, in nanoseconds of the run.
    pub(crate) at: u64,
}

/// An answer to something that was asked.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(super) kind: String,
    pub(super) id: Option<u64>,
    /// The code, if it is an error.
    pub(super) error: Option<String>,
}

impl<'a> Frame<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self, Failure> {
        serde_json::from_str(text).map_err(|_| Failure::Unexpected("a message of another shape"))
    }

    pub(crate) fn kind(&self) -> &str {
        &self.kind
    }

    pub(crate) fn payload(&self) -> &Payload<'a> {
        &self.payload
    }

    pub(crate) fn is(&self, kind: &str) -> bool {
        self.kind == kind
    }

    /// Whether the socket needs a new access token: soon, or at once.
    pub(super) fn asks_for_token(&self) -> bool {
        self.is("token_expiring") || (self.id.is_none() && self.payload.code.as_deref() == Some("token_expired"))
    }

    /// Whether it answers something. Servers that echo no id are only ever asked what is answered by these.
    pub(super) fn is_reply(&self, without_ids: bool) -> bool {
        self.id.is_some() || (without_ids && matches!(&*self.kind, "pong" | "error"))
    }

    pub(super) fn into_reply(self) -> Reply {
        let Self { kind, id, payload } = self;
        let code = || payload.code.map_or_else(|| "without a code".to_owned(), Cow::into_owned);
        Reply { error: (kind == "error").then(code), kind: kind.into_owned(), id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_looked_at_is_found_and_the_rest_ignored() {
        let frame = Frame::parse(
            r#"{"type":"message","payload":{"room":"r","id":"7-1","user":{"id":3,"username":"x"},"data":{"at":5},"timestamp":9}}"#,
        )
        .unwrap();
        assert!(frame.is("message") && !frame.is_reply(false));
        let payload = frame.payload();
        assert_eq!(payload.user.as_ref().unwrap().id, 3);
        assert_eq!(payload.data.as_ref().unwrap().at, 5);
    }

    #[test]
    fn typing_is_a_flag_or_a_list() {
        let joined = r#"{"type":"joined","id":4,"payload":{"room":"r","count":1,"users":[],"typing":[{"id":1,"username":"x"}],"messages":[],"recovered":true}}"#;
        assert!(Frame::parse(joined).unwrap().is_reply(false));
        let typing =
            Frame::parse(r#"{"type":"typing","payload":{"room":"r","user":{"id":1},"typing":true,"until":1}}"#);
        assert!(matches!(typing.unwrap().payload().typing, Some(Typing::Flag(true))));
    }

    #[test]
    fn a_server_without_ids_is_understood() {
        let pong = Frame::parse(r#"{"type":"pong","payload":{"timestamp":1}}"#).unwrap();
        assert!(pong.is_reply(true) && !pong.is_reply(false));
        let error = Frame::parse(r#"{"type":"error","payload":{"message":"no","requireReauth":false}}"#).unwrap();
        assert_eq!(error.into_reply().error.as_deref(), Some("without a code"));
    }
}
