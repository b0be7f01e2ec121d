//! The sessions of a user, for the user and for administrators to see.

use std::cmp::Reverse;

use gatefold_shared::redis::{Redis, RedisError, Script, Value, keys};
use uuid::Uuid;

static LIST: Script = Script::new("list", &[include_str!("list.lua")]);

/// A session in a user's list of them. Times are milliseconds since 1970.
pub struct Listed {
    /// The session.
    pub family: Uuid,
    /// When it was opened.
    pub created_at: i64,
    /// When it was last refreshed.
    pub last_used_at: i64,
    /// When it ends if it is not refreshed.
    pub expires_at: i64,
    /// From where it was used last.
    pub address: String,
    /// What the client called itself.
    pub user_agent: String,
}

impl Listed {
    fn read(fields: &[Value]) -> Option<Self> {
        let [family, created_at, last_used_at, expires_at, address, user_agent] = fields else { return None };
        Some(Self {
            family: family.as_str()?.parse().ok()?,
            created_at: created_at.as_i64()?,
            last_used_at: last_used_at.as_i64()?,
            expires_at: expires_at.as_i64()?,
            address: address.as_string()?,
            user_agent: user_agent.as_string()?,
        })
    }
}

/// The living sessions of a user, newest first.
pub async fn list(redis: &Redis, user_id: i64) -> Result<Vec<Listed>, RedisError> {
    let keys = [keys::families(user_id)];
    let arguments = vec![keys::family_prefix(user_id).into()];
    let reply: Vec<Vec<Value>> = redis.run(&LIST, &keys, arguments, redis.deadline()).await?;
    let sessions: Option<Vec<Listed>> = reply.iter().map(|fields| Listed::read(fields)).collect();
    let mut sessions = sessions.ok_or_else(|| LIST.unexpected_reply())?;
    sessions.sort_by_key(|session| Reverse(session.created_at));
    Ok(sessions)
}
