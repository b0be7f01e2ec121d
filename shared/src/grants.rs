//! Grants: which private rooms a user may enter.
//!
//! Postgres holds them, with a version that grows with each change. What counts is the copy in Redis: a room that it does
//! not name is closed, whatever an access token claims, so that taking a grant away needs nobody's patience. The copy is
//! written by whoever changes the grants and at each log-in, and never replaced by an older one: a log-in that read the
//! grants just before one was taken away cannot bring it back.

use std::sync::Arc;

use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    jwt::Subject,
    redis::{Redis, RedisError, Script, Value, keys},
    rooms::RoomName,
};

/// What every script that deals with the copy begins with.
pub const PRELUDE: &str = include_str!("grants/prelude.lua");
static WRITE: Script = Script::new("write_grants", &[PRELUDE, include_str!("grants/write.lua")]);

/// A user has at most so many grants: they stand in the access token, which has to fit into 5 KiB.
pub const MOST: usize = 16;

/// Names of rooms that are granted; none cost nothing.
pub type Rooms = Arc<[Box<str>]>;

/// The grants of a user, as Postgres has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Of which owner of the user's number these are, if that is known.
    pub uid: Option<Uuid>,
    /// Grows with each change; 0 if there never was one.
    pub version: i64,
    /// What is granted.
    pub rooms: Rooms,
}

impl Grants {
    /// The identity as scripts take it.
    pub fn uid_text(&self) -> String {
        self.uid.map(|uid| uid.to_string()).unwrap_or_default()
    }

    /// The rooms as scripts take them.
    pub fn rooms_json(&self) -> String {
        // Text always has a form in JSON.
        serde_json::to_string(&self.rooms).unwrap_or_default()
    }
}

/// Whether a room can be granted: `private:` and a name.
pub fn is_grantable(room: &str) -> bool {
    let name = room.strip_prefix("private:");
    name.is_some_and(|name| !name.is_empty()) && RoomName::parse(room).is_some()
}

/// The rooms in the reply of a script. What cannot be read grants nothing.
pub fn rooms_of(reply: Option<&Value>) -> Rooms {
    let json = reply.and_then(Value::as_str);
    let mut rooms: Vec<Box<str>> = json.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default();
    rooms.retain(|room| is_grantable(room));
    rooms.truncate(MOST);
    rooms.into()
}

/// Makes a user's grants count, unless newer ones do already.
pub async fn write(redis: &Redis, user_id: i64, grants: &Grants, until: Instant) -> Result<(), RedisError> {
    let arguments = vec![grants.version.into(), grants.rooms_json().into(), grants.uid_text().into()];
    let reply: Vec<Value> = redis.commit(&WRITE, &[keys::grants(user_id)], arguments, until).await?;
    if reply.len() == 1 { Ok(()) } else { Err(WRITE.unexpected_reply()) }
}

/// Whether a user has a grant that counts. Those of another owner of the number do not.
pub async fn holds(
    redis: &Redis,
    user: impl Into<Subject>,
    room: &RoomName,
    until: Instant,
) -> Result<bool, RedisError> {
    let user = user.into();
    let read = vec![("HMGET", keys::grants(user.id), vec!["rooms".into(), "uid".into()])];
    let reply: Option<Vec<Value>> = redis.pipeline("read_grants", read, until).await.into_iter().next().transpose()?;
    let fields = reply.unwrap_or_default();
    let owner = fields.get(1).and_then(Value::as_str).and_then(|uid| uid.parse().ok());
    if owner.is_some_and(|owner| !user.may_be(owner)) {
        return Ok(false);
    }
    Ok(rooms_of(fields.first()).iter().any(|granted| &**granted == room.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_private_rooms_that_have_a_name_can_be_granted() {
        for good in ["private:a", "private:a.b_c-D:9", "private::", &format!("private:{}", "x".repeat(120))] {
            assert!(is_grantable(good), "{good}");
        }
        let too_long = format!("private:{}", "x".repeat(121));
        for bad in ["", "private", "private:", "lobby", "user:7", "Private:a", "private:a b", "private:é", &too_long] {
            assert!(!is_grantable(bad), "{bad}");
        }
    }

    #[test]
    fn what_a_script_says_is_read_and_nothing_else_grants_anything() {
        let grants = Grants { uid: None, version: 1, rooms: ["private:a".into(), "private:b".into()].into() };
        assert_eq!(rooms_of(Some(&grants.rooms_json().into())), grants.rooms);
        for nothing in [Value::Null, "".into(), "{}".into(), "[1]".into(), "[\"lobby\"]".into(), "[]".into()] {
            assert!(rooms_of(Some(&nothing)).is_empty(), "{nothing:?}");
        }
        assert!(rooms_of(None).is_empty());
        let many: Vec<String> = (0..40).map(|number| format!("private:{number}")).collect();
        assert_eq!(rooms_of(Some(&serde_json::to_string(&many).unwrap().into())).len(), MOST);
    }
}
