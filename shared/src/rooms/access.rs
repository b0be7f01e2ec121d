//! Who may be in which room.

use super::RoomName;
use crate::{
    jwt::AccessToken,
    redis::{Redis, RedisError},
};

/// What an access token alone says about entering a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Its bearer may.
    Allowed,
    /// Its bearer may not.
    Refused,
}

/// What an access token alone says about entering a room: `user:<id>` is that user's alone, and what is private is closed.
pub fn claimed(token: &AccessToken, room: &RoomName) -> Claim {
    let allowed = match room.as_str().split_once(':') {
        Some(("user", id)) => id == token.user_id.to_string(),
        Some(("private", _)) => false,
        _ => true,
    };
    if allowed { Claim::Allowed } else { Claim::Refused }
}

/// Whether the bearer of a token may enter a room now.
#[expect(clippy::unused_async, reason = "grants are asked of Redis")]
pub async fn may_join(_redis: &Redis, token: &AccessToken, room: &RoomName) -> Result<bool, RedisError> {
    Ok(claimed(token, room) == Claim::Allowed)
}
