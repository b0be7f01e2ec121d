//! How a socket ends: one table of close codes.

use std::borrow::Cow;

use gatefold_shared::{
    jwt::VerifyError,
    revocation::{Denied, Why},
};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};

use crate::authenticate::Denial;

/// Why we close a socket. A client may rely on the ranges: after 4000 to 4499 it may come back, after 4500 to 4999 not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// The peer broke RFC 6455.
    InvalidFrame,
    /// A frame that is not text.
    UnsupportedData,
    /// Text that is not UTF-8.
    InvalidUtf8,
    /// A message over the limit.
    MessageTooBig,
    /// The replica is going away.
    ServiceRestart,
    /// The peer does not read what it is sent.
    SlowConsumer,
    /// What is needed to let the client in is away.
    Overloaded,
    /// The token was bad.
    InvalidToken,
    /// The token expired, and no other one came in time.
    TokenExpired,
    /// No `auth` message in time.
    AuthTimeout,
    /// A message was begun and did not come as a whole in time.
    MessageTimeout,
    /// It went on although it was told that it sends too much, or sent far too many frames.
    RateLimited,
    /// Too many messages that make no sense.
    ProtocolError,
    /// The session was revoked.
    Revoked(Why),
    /// A token of another user or session in `reauth`.
    IdentityMismatch,
}

impl From<Denial> for CloseReason {
    fn from(denial: Denial) -> Self {
        match denial {
            Denial::Token(VerifyError::Invalid) => Self::InvalidToken,
            Denial::Token(VerifyError::Expired) => Self::TokenExpired,
            Denial::Session(Denied::Revoked(why)) => Self::Revoked(why),
            Denial::Session(Denied::Stale) => Self::Overloaded,
        }
    }
}

impl CloseReason {
    /// Code and reason text.
    pub(crate) const fn code_and_text(self) -> (u16, &'static str) {
        match self {
            Self::InvalidFrame => (1002, "protocol_error"),
            Self::UnsupportedData => (1003, "unsupported_data"),
            Self::InvalidUtf8 => (1007, "invalid_utf8"),
            Self::MessageTooBig => (1009, "message_too_big"),
            Self::ServiceRestart => (1012, "service_restart"),
            Self::SlowConsumer => (1013, "slow_consumer"),
            Self::Overloaded => (1013, "overloaded"),
            Self::InvalidToken => (4401, "invalid_token"),
            Self::TokenExpired => (4401, "token_expired"),
            Self::AuthTimeout => (4408, "auth_timeout"),
            Self::MessageTimeout => (4408, "message_timeout"),
            Self::RateLimited => (4429, "rate_limited"),
            Self::ProtocolError => (4500, "protocol_error"),
            Self::Revoked(why) => (4503, why.as_str()),
            Self::IdentityMismatch => (4509, "identity_mismatch"),
        }
    }

    pub(crate) fn frame(self) -> CloseFrame {
        let (code, text) = self.code_and_text();
        CloseFrame { code: CloseCode::from(code), reason: text.into() }
    }
}

/// How a socket ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// We close it.
    ByUs(CloseReason),
    /// The peer closed it, with this code if with any.
    ByPeer(Option<u16>),
    /// Nothing was heard of the peer for too long.
    Silence,
    /// The connection broke.
    Lost,
}

impl From<CloseReason> for Ending {
    fn from(reason: CloseReason) -> Self {
        Self::ByUs(reason)
    }
}

impl Ending {
    /// Code and reason for the log; 1005 and 1006 are RFC 6455's own for what has no code.
    pub(crate) const fn code_and_text(self) -> (u16, &'static str) {
        match self {
            Self::ByUs(reason) => reason.code_and_text(),
            Self::ByPeer(Some(code)) => (code, "closed_by_client"),
            Self::ByPeer(None) => (1005, "closed_by_client"),
            Self::Silence => (1006, "silence"),
            Self::Lost => (1006, "connection_lost"),
        }
    }

    /// The code as a label of metrics: a client must not be able to make up new ones.
    pub(crate) fn label(self) -> Cow<'static, str> {
        match (self, self.code_and_text().0) {
            (Self::ByPeer(_), code) if !matches!(code, 1000 | 1001 | 1005) => "other".into(),
            (_, code) => code.to_string().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_a_client_makes_up_share_a_label() {
        assert_eq!(Ending::ByPeer(Some(4999)).label(), "other");
        assert_eq!(Ending::ByPeer(Some(1000)).label(), "1000");
        assert_eq!(Ending::ByPeer(None).label(), "1005");
        assert_eq!(Ending::from(CloseReason::RateLimited).label(), "4429");
        assert_eq!(Ending::Lost.label(), "1006");
    }
}
