//! Who may be in which room.
//!
//! `user:<id>` is that user's alone, `private:<anything>` is for those to whom it was granted, and every other room is open.
//! A grant counts while both the access token and the copy of the grants in Redis name it: the token makes refusing cheap,
//! and the copy makes taking a grant away immediate. Whoever lets a user stay somewhere asks when they can be reached by
//! [`super::expel`], and not before, or else a grant that is taken away in between is missed.

use super::RoomName;
use crate::{
    grants,
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
    /// Its bearer may if Redis still has the grant.
    AskRedis,
}

/// What an access token alone says about entering a room.
pub fn claimed(token: &AccessToken, room: &RoomName) -> Claim {
    match room.as_str().split_once(':') {
        Some(("user", id)) if id == token.user_id.to_string() => Claim::Allowed,
        Some(("private", _)) if token.rooms.iter().any(|granted| &**granted == room.as_str()) => Claim::AskRedis,
        Some(("user" | "private", _)) => Claim::Refused,
        _ => Claim::Allowed,
    }
}

/// Whether the bearer of a token may enter a room now.
pub async fn may_join(redis: &Redis, token: &AccessToken, room: &RoomName) -> Result<bool, RedisError> {
    match claimed(token, room) {
        Claim::Allowed => Ok(true),
        Claim::Refused => Ok(false),
        Claim::AskRedis => grants::holds(redis, token.subject(), room, redis.deadline()).await,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_token_opens_all_rooms_but_those_of_others_and_asks_for_what_was_granted() {
        let rooms = ["private:a".into(), "private:b:c".into()].into();
        let token =
            AccessToken { user_id: 7, uid: None, username: "grace".into(), family: Uuid::nil(), expires_at: 0, rooms };
        let claim = |room| claimed(&token, &RoomName::parse(room).unwrap());
        for open in ["lobby", "user", "private", "user:7", "users:8", "privates:x", "User:8", ":", "a:private:b"] {
            assert_eq!(claim(open), Claim::Allowed, "{open}");
        }
        for closed in ["user:8", "user:07", "user:", "user:7:", "private:", "private:A", "private:ab", "private:b"] {
            assert_eq!(claim(closed), Claim::Refused, "{closed}");
        }
        for granted in ["private:a", "private:b:c"] {
            assert_eq!(claim(granted), Claim::AskRedis, "{granted}");
        }
    }
}
