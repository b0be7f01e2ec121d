//! Socket tickets: a REST replica gives one out for an access token, and any WebSocket replica takes it, once and soon, so
//! that no access token need ever stand in a URL.
//!
//! A ticket is a bearer secret. Redis knows only its digest: who reads a dump of Redis opens nothing with it. A ticket whose
//! redemption got no answer may be used up; its client asks for another.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::{digest, rand};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    clock,
    grants::Rooms,
    jwt::AccessToken,
    redis::{Redis, RedisError, Script, Value, keys, millis},
};

static ISSUE: Script = Script::new("issue_ticket", &[include_str!("tickets/issue.lua")]);
static REDEEM: Script = Script::new("redeem_ticket", &[include_str!("tickets/redeem.lua")]);

/// How long a ticket may be used, if its access token lives as long.
const LIFETIME: Duration = Duration::from_secs(30);
/// Bytes of a ticket, all of them random.
const LENGTH: usize = 16;

/// A ticket, and how long it may be used.
pub struct Ticket {
    /// What opens a socket.
    pub id: SecretString,
    /// For so long.
    pub expires_in: Duration,
}

/// Why there is no ticket.
#[derive(Debug, thiserror::Error)]
pub enum TicketError {
    /// The access token is about to expire: nothing can be opened with it any more.
    #[error("the access token has expired")]
    Expired,
    /// Redis did not answer; the same request may be sent again.
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// The system gave no random bytes.
    #[error("no random bytes")]
    Random,
}

/// What a ticket stands for: an access token, but for its signature.
#[derive(Deserialize, Serialize)]
struct Bearer {
    user: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uid: Option<Uuid>,
    username: Arc<str>,
    family: Uuid,
    /// In seconds since 1970.
    expires: u64,
    #[serde(default)]
    rooms: Rooms,
}

/// Gives out a ticket for the bearer of an access token.
pub async fn issue(redis: &Redis, token: &AccessToken) -> Result<Ticket, TicketError> {
    let expires_in = lifetime(token, clock::since_epoch()).ok_or(TicketError::Expired)?;
    let mut id = [0; LENGTH];
    rand::fill(&mut id).map_err(|_| TicketError::Random)?;
    let id = URL_SAFE_NO_PAD.encode(id);
    let arguments: Vec<Value> = vec![to_json(token).into(), millis(expires_in).into()];
    let reply: Vec<i64> = redis.run(&ISSUE, &[key(&id)], arguments, redis.deadline()).await?;
    if reply == [1] { Ok(Ticket { id: id.into(), expires_in }) } else { Err(ISSUE.unexpected_reply().into()) }
}

/// Uses a ticket up, and tells what it stood for; nothing if there is no such ticket any more. Whether the session has been
/// revoked since is the caller's to check, as with any access token.
pub async fn redeem(redis: &Redis, id: &str) -> Result<Option<AccessToken>, RedisError> {
    let reply: Vec<Value> = redis.commit(&REDEEM, &[key(id)], Vec::new(), redis.deadline()).await?;
    match &reply[..] {
        [outcome] if outcome.as_i64() == Some(0) => Ok(None),
        [outcome, bearer] if outcome.as_i64() == Some(1) => {
            let token = bearer.as_str().and_then(|bearer| from_json(&bearer));
            let token = token.ok_or_else(|| REDEEM.unexpected_reply())?;
            Ok(Some(token).filter(|token| token.expires_at > clock::unix_seconds()))
        }
        _ => Err(REDEEM.unexpected_reply()),
    }
}

/// A ticket dies with its access token. One that would live for less than a millisecond is none.
fn lifetime(token: &AccessToken, now: Duration) -> Option<Duration> {
    let left = Duration::from_secs(token.expires_at).saturating_sub(now).min(LIFETIME);
    (left.as_millis() > 0).then_some(left)
}

fn key(id: &str) -> String {
    keys::ticket(&URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, id.as_bytes())))
}

fn to_json(token: &AccessToken) -> String {
    let AccessToken { user_id, uid, username, family, expires_at, rooms } = token.clone();
    let bearer = Bearer { user: user_id, uid, username, family, expires: expires_at, rooms };
    // Numbers and text always have a form in JSON.
    serde_json::to_string(&bearer).unwrap_or_default()
}

fn from_json(text: &str) -> Option<AccessToken> {
    let Bearer { user, uid, username, family, expires, rooms } = serde_json::from_str(text).ok()?;
    Some(AccessToken { user_id: user, uid, username, family, expires_at: expires, rooms })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(expires_at: u64) -> AccessToken {
        let rooms = ["private:a".into()].into();
        let (uid, family) = (Some(Uuid::from_u128(3)), Uuid::from_u128(9));
        AccessToken { user_id: 7, uid, username: "gr\"ace".into(), family, expires_at, rooms }
    }

    #[test]
    fn a_ticket_lives_for_thirty_seconds_and_never_longer_than_its_access_token() {
        let now = Duration::from_millis(1_000_500);
        assert_eq!(lifetime(&token(2000), now), Some(LIFETIME));
        assert_eq!(lifetime(&token(1010), now), Some(Duration::from_millis(9_500)));
        assert_eq!(lifetime(&token(1000), now), None);
        assert_eq!(lifetime(&token(1000), Duration::from_nanos(999_999_999_999)), None);
    }

    #[test]
    fn what_it_stands_for_is_read_back_as_it_was() {
        assert_eq!(from_json(&to_json(&token(2000))), Some(token(2000)));
        assert_eq!(from_json("{}"), None);
        let without = AccessToken { uid: None, ..token(2000) };
        assert_eq!(from_json(&to_json(&without)), Some(without), "as version 0.1.0 writes it");
    }

    #[test]
    fn redis_is_never_told_the_ticket_itself() {
        let id = "MTIzNDU2Nzg5MDEyMzQ1Ng";
        assert!(!key(id).contains(id));
        assert_eq!(key(id), key(id));
        assert_ne!(key(id), key("MTIzNDU2Nzg5MDEyMzQ1Nw"));
    }
}
