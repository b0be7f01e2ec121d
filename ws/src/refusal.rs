//! Why a socket is refused before the upgrade: one table of status, code and words.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use gatefold_shared::{
    jwt::VerifyError, origin::ForeignOrigin, problem::Problem, request::forbidden_origin, revocation::Denied,
};
use http::{HeaderValue, StatusCode, header};

use crate::authenticate::Denial;

/// When whoever has too many sockets may try again: when one has been closed, which nobody knows.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Why there is no socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Not a WebSocket handshake, or one of another version.
    UpgradeRequired,
    /// A WebSocket handshake, but a broken one; says what is wrong.
    BadHandshake(&'static str),
    /// A page of a foreign origin wants it.
    ForeignOrigin(ForeignOrigin),
    /// The token that was brought does not open sockets.
    Token(VerifyError),
    /// The session of the token was revoked.
    Revoked,
    /// The user has as many sockets as they may have.
    TooManySockets,
    /// The replica has no seat left, is going away, or cannot ask what it has to.
    Unavailable,
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        match denial {
            Denial::Token(error) => Self::Token(error),
            Denial::Session(Denied::Revoked(_)) => Self::Revoked,
            Denial::Session(Denied::Stale) => Self::Unavailable,
        }
    }
}

impl Refusal {
    pub(crate) fn problem(&self) -> Problem {
        match self {
            Self::UpgradeRequired => Problem::new(
                StatusCode::UPGRADE_REQUIRED,
                "upgrade_required",
                "This is a WebSocket (version 13): open it with a WebSocket client",
            ),
            Self::BadHandshake(what) => Problem::new(StatusCode::BAD_REQUEST, "invalid_request", *what),
            Self::ForeignOrigin(foreign) => forbidden_origin(foreign),
            Self::Token(VerifyError::Invalid) => {
                Problem::new(StatusCode::UNAUTHORIZED, "invalid_token", "The access token is not valid")
            }
            Self::Token(VerifyError::Expired) => {
                Problem::new(StatusCode::UNAUTHORIZED, "token_expired", "The access token has expired")
            }
            Self::Revoked => Problem {
                require_reauth: true,
                ..Problem::new(StatusCode::UNAUTHORIZED, "session_revoked", "The session was ended: log in again")
            },
            Self::TooManySockets => Problem {
                retry_after: Some(RETRY_AFTER),
                ..Problem::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "rate_limited",
                    "You have too many sockets open: close one first",
                )
            },
            Self::Unavailable => Problem::unavailable(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.problem().into_response();
        let headers = response.headers_mut();
        match self {
            Self::UpgradeRequired => {
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
                headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            Self::Token(_) | Self::Revoked => {
                let challenge = HeaderValue::from_static(r#"Bearer error="invalid_token""#);
                headers.insert(header::WWW_AUTHENTICATE, challenge);
            }
            Self::BadHandshake(_) | Self::ForeignOrigin(_) | Self::TooManySockets | Self::Unavailable => {}
        }
        response
    }
}
