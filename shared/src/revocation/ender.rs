//! Ending sessions: each by one script, which also writes it into the log and tells everybody.

use std::time::Duration;

use metrics::counter;
use uuid::Uuid;

use super::{PRELUDE, Why};
use crate::redis::{Redis, RedisError, Script, Value, keys, millis};

static REVOKE: Script = Script::new("revoke", &[PRELUDE, include_str!("revoke.lua")]);
static REVOKE_ALL: Script = Script::new("revoke_all", &[PRELUDE, include_str!("revoke_all.lua")]);

/// Whether a session that should end was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was, and has ended.
    Now,
    /// It had ended before.
    Before,
    /// There is none.
    Unknown,
}

/// Ends sessions.
#[derive(Clone)]
pub struct SessionEnder {
    redis: Redis,
    keep_for: Duration,
}

impl SessionEnder {
    /// `keep_for` is how long an access token may be valid after its session ended, also for commands that issue none: the
    /// replicas' settings may differ, and the longer of this and what the family remembers counts.
    pub fn new(redis: Redis, keep_for: Duration) -> Self {
        Self { redis, keep_for }
    }

    /// Ends one session of a user. `secret_digest` proves that the caller holds a token of it; without one the caller must
    /// have made sure that the session is theirs to end.
    pub async fn revoke(
        &self,
        user_id: i64,
        family: Uuid,
        secret_digest: Option<&str>,
        why: Why,
    ) -> Result<Ended, RedisError> {
        let keys = [keys::family(user_id, family), keys::families(user_id), keys::revocations(user_id)];
        let arguments: Vec<Value> = vec![
            family.to_string().into(),
            user_id.into(),
            secret_digest.unwrap_or_default().into(),
            why.as_str().into(),
            self.keep_for().into(),
        ];
        let reply: Vec<i64> = self.redis.commit(&REVOKE, &keys, arguments, self.redis.deadline()).await?;
        match reply[..] {
            [0] => Ok(Ended::Unknown),
            [1] => {
                counter!("gatefold_sessions_revoked_total", "why" => why.as_str()).increment(1);
                Ok(Ended::Now)
            }
            [2] => Ok(Ended::Before),
            _ => Err(REVOKE.unexpected_reply()),
        }
    }

    /// Ends all sessions of a user, but for one if that is spared, and tells how many there were.
    pub async fn revoke_all(&self, user_id: i64, spared: Option<Uuid>, why: Why) -> Result<u64, RedisError> {
        let keys = [keys::families(user_id), keys::revocations(user_id)];
        let arguments: Vec<Value> = vec![
            user_id.into(),
            spared.map(|family| family.to_string()).unwrap_or_default().into(),
            why.as_str().into(),
            self.keep_for().into(),
            keys::family_prefix(user_id).into(),
        ];
        let reply: Vec<u64> = self.redis.commit(&REVOKE_ALL, &keys, arguments, self.redis.deadline()).await?;
        let [revoked] = reply[..] else { return Err(REVOKE_ALL.unexpected_reply()) };
        counter!("gatefold_sessions_revoked_total", "why" => why.as_str()).increment(revoked);
        Ok(revoked)
    }

    /// How long access tokens outlive their sessions, in milliseconds, for scripts that end families on the way.
    pub fn keep_for(&self) -> i64 {
        millis(self.keep_for)
    }
}
