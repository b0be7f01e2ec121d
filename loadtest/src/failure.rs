//! Why an operation failed, in words that make a good line of a table: few, stable, and without anything secret.

use std::io;

use http::StatusCode;
use tokio_tungstenite::tungstenite;

/// What became of an operation that did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Failure {
    /// An answer other than the one that means success.
    #[error("{status} {code}")]
    Refused { status: u16, code: String },
    /// An error message on a socket.
    #[error("error {0}")]
    Error(String),
    /// The server closed the socket.
    #[error("closed {code} {reason}")]
    Closed { code: u16, reason: String },
    /// The connection broke, or none could be made.
    #[error("connection: {0}")]
    Connection(String),
    /// No answer in time.
    #[error("timeout")]
    Timeout,
    /// An answer that the contract does not know.
    #[error("unexpected: {0}")]
    Unexpected(&'static str),
    /// Its turn came and nobody was free to take it before the run ended.
    #[error("never started")]
    NeverStarted,
    /// Somebody who should have heard it did not.
    #[error("not delivered")]
    NotDelivered,
    /// Somebody heard it more than once.
    #[error("delivered twice")]
    DeliveredTwice,
}

impl Failure {
    pub(crate) fn refused(status: StatusCode, code: Option<String>) -> Self {
        Self::Refused { status: status.as_u16(), code: code.unwrap_or_default() }
    }

    /// Whether it is the server's word that the session is over.
    pub(crate) fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Refused { status: 401, .. })
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Connection(error.kind().to_string())
    }
}

impl From<hyper::Error> for Failure {
    fn from(error: hyper::Error) -> Self {
        Self::Connection(if error.is_incomplete_message() {
            "closed before the answer".to_owned()
        } else if error.is_canceled() || error.is_closed() {
            "closed before the request".to_owned()
        } else {
            "broken".to_owned()
        })
    }
}

impl From<tungstenite::Error> for Failure {
    fn from(error: tungstenite::Error) -> Self {
        match error {
            tungstenite::Error::Io(error) => error.into(),
            tungstenite::Error::Http(answer) => {
                Self::refused(answer.status(), answer.body().as_deref().and_then(problem_code))
            }
            tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
                Self::Connection("closed".to_owned())
            }
            tungstenite::Error::Protocol(_) => Self::Unexpected("a violation of the WebSocket protocol"),
            _ => Self::Connection("broken".to_owned()),
        }
    }
}

/// The stable code in a problem document, if it is one.
pub(crate) fn problem_code(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Problem {
        code: String,
    }
    serde_json::from_slice::<Problem>(body).ok().map(|problem| problem.code)
}
