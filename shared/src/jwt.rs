//! Access tokens: JWTs after RFC 9068, signed with RS256 and verified after RFC 8725.

mod keys;
mod sign;
#[cfg(test)]
mod tests;
mod verify;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::grants::Rooms;

pub use self::{
    keys::{KeyError, PublicKey},
    sign::{SignError, Signer},
    verify::{Verifier, VerifyError},
};

/// RFC 9068 2.2: the client that asked for the token. There is one, which is Gatefold's own log-in.
const CLIENT_ID: &str = "gatefold";
/// RFC 9068 2.1: explicit typing, so that no other JWT signed with the same key passes for an access token.
const TYPE: &str = "at+jwt";

/// What an access token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    iss: String,
    aud: String,
    /// Absent in tokens of version 0.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    /// The user's id, as text (RFC 7519 4.1.2).
    sub: String,
    /// Which owner of that id it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uid: Option<Uuid>,
    /// The user's name as they typed it when they registered.
    pub username: Arc<str>,
    /// The family (session) for which the token was issued.
    pub sid: Uuid,
    /// Unique to each token.
    pub jti: Uuid,
    /// Issued at, in seconds since 1970.
    pub iat: u64,
    /// Expires at, in seconds since 1970.
    pub exp: u64,
    /// The private rooms that the user may enter, as far as was known when the token was signed.
    #[serde(default, skip_serializing_if = "is_empty")]
    rooms: Rooms,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<u64>,
}

fn is_empty(rooms: &Rooms) -> bool {
    rooms.is_empty()
}

/// A user: the number of the account, and the identity of its owner, which no later owner of the number has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The account's number. A restored database gives it out again.
    pub id: i64,
    /// The identity, if it is known: tokens and sessions of version 0.1.0 have none.
    pub uid: Option<Uuid>,
}

impl Subject {
    /// Whether it is this identity, as far as is known.
    pub fn may_be(self, uid: Uuid) -> bool {
        self.uid.is_none_or(|known| known == uid)
    }
}

/// Somebody of whom no identity is known.
impl From<i64> for Subject {
    fn from(id: i64) -> Self {
        Self { id, uid: None }
    }
}

/// A verified access token: who is calling, in which session and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessToken {
    /// The user.
    pub user_id: i64,
    /// The user's identity, if the token has it.
    pub uid: Option<Uuid>,
    /// The user's name.
    pub username: Arc<str>,
    /// The session.
    pub family: Uuid,
    /// When it expires, in seconds since 1970.
    pub expires_at: u64,
    /// The private rooms that its bearer may enter, if they were not taken away since.
    pub rooms: Rooms,
}

impl AccessToken {
    /// Whose it is.
    pub fn subject(&self) -> Subject {
        Subject { id: self.user_id, uid: self.uid }
    }
}
