//! What opening a session or trading a refresh token can lead to.

use std::{sync::Arc, time::Duration};

use gatefold_shared::{grants::Rooms, redis::RedisError};
use secrecy::SecretString;
use uuid::Uuid;

use crate::postgres::PostgresError;

/// What a client gets: the session's next refresh token, and for whom it is.
#[derive(Debug)]
pub struct Session {
    /// The user.
    pub user_id: i64,
    /// The user's identity; sessions of version 0.1.0 do not say it yet.
    pub uid: Option<Uuid>,
    /// The user's name.
    pub username: Arc<str>,
    /// The session.
    pub family: Uuid,
    /// The refresh token, sealed.
    pub refresh_token: SecretString,
    /// How long the refresh token lives.
    pub expires_in: Duration,
    /// The private rooms that the user may enter.
    pub rooms: Rooms,
}

/// A session that was opened.
pub struct Issued {
    /// The session.
    pub session: Session,
    /// The user's sessions that had to end for it.
    pub evicted: Vec<Uuid>,
    /// The sessions of whoever had the user's number before, which have ended.
    pub replaced: Vec<Uuid>,
}

/// What became of an attempt to trade a refresh token.
#[derive(Debug)]
pub enum Rotation {
    /// For the next generation.
    Rotated(Session),
    /// For the same successor as before, since the client cannot have got that.
    Retried(Session),
    /// For the next generation, although Redis had forgotten that this one was issued.
    RolledForward(Session),
    /// For a further generation: it is a retry that comes late, and nobody has used the successor that there was. That one is
    /// worth nothing any more.
    TradedAnew(Session),
    /// Not now, and nothing was changed: the key belongs to another rotation of the same session.
    KeyReused,
    /// Never, and nothing was changed: it is a request with the key of its own rotation, which comes so late that its
    /// successor was used meanwhile. Its client has asked again, and went on with the answer to that.
    Superseded,
    /// Never: it had been traded before. The family is ended, logged and announced.
    Replayed {
        /// From where the family was used last, before this.
        last_address: String,
    },
    /// Never: the family had ended before.
    Revoked,
    /// Never: there is no such family (any more).
    Unknown,
}

impl Rotation {
    /// What the client gets, if it gets anything.
    pub fn session(&self) -> Option<&Session> {
        match self {
            Self::Rotated(session)
            | Self::Retried(session)
            | Self::RolledForward(session)
            | Self::TradedAnew(session) => Some(session),
            Self::KeyReused | Self::Superseded | Self::Replayed { .. } | Self::Revoked | Self::Unknown => None,
        }
    }
}

/// Why nothing is known of the outcome.
#[derive(Debug, thiserror::Error)]
pub enum FamilyError {
    /// Redis did not answer; the same request may be sent again.
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// Redis has just come back, and the answer to another replica's rotation may have been lost: not the moment to call a
    /// client a thief. Or this replica stood still, and the request may have been given up meanwhile.
    #[error("redis has just come back, or this replica stood still; a replay is not judged yet")]
    NotJudged,
    /// Nobody could tell yet whether Redis is an older copy of itself, or it is one and not repaired.
    #[error("it is not known whether redis has all that it should have")]
    NotVouched,
    /// Postgres was restored, and did not say whose the session is.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// No randomness for a new secret.
    #[error("no randomness")]
    Random(#[from] aws_lc_rs::error::Unspecified),
}
