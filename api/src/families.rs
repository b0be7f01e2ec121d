//! Refresh-token families: a log-in opens one, each refresh moves it a generation on, a replay ends it.
//!
//! All decisions are made by scripts in Redis, atomically and by Redis's clock; what is here gives them their arguments,
//! turns their answers into enums, and takes care of answers that were lost (see [`Families::rotate`]).

mod alive;
mod attempt;
mod list;
mod outcome;
mod owners;
mod pulse;
mod reading;
mod reopen;
#[cfg(test)]
mod tests;
mod token;

use std::{net::IpAddr, sync::Arc, time::Duration};

use gatefold_shared::{
    grants::{self, Grants},
    lifecycle::Lifecycle,
    live_keys::LiveKeys,
    redis::{Redis, RedisError, Script, Value, keys, millis},
    revocation::{Ended, PRELUDE, SessionEnder, Why},
};
use metrics::counter;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

pub use self::alive::Choice;
pub use self::list::{Listed, list};
pub use self::outcome::{FamilyError, Issued, Rotation, Session};
pub use self::owners::claim;
pub use self::token::{RefreshKeys, RefreshToken, hex, sha256_hex};
use self::{attempt::Attempt, owners::Owners, pulse::Pulse, reading::Reading, reopen::Reopener};
use crate::{audit::Audit, keys::Keys, marks::Marks, state::Stores, users::Owner};

/// What every script begins with that knows whose a number is.
const IDENTITY: &str = include_str!("families/identity.lua");
static ISSUE: Script = Script::new("issue", &[PRELUDE, grants::PRELUDE, IDENTITY, include_str!("families/issue.lua")]);
static ROTATE: Script = Script::new("rotate", &[PRELUDE, grants::PRELUDE, include_str!("families/rotate.lua")]);

/// Pause before a request asks Redis again after losing the connection; it does so only as long as it may wait anyway.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// How long sessions live; all by Redis's clock.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// Since the last refresh.
    pub refresh: Duration,
    /// Since the log-in, however often refreshed.
    pub absolute: Duration,
    /// For how long a token that was traded may be traded again by anybody.
    pub reuse_grace: Duration,
    /// Most sessions that a user may have.
    pub most: u32,
}

/// Where a session is opened or refreshed from.
#[derive(Clone, Copy)]
pub struct Origin<'a> {
    /// The client's address.
    pub address: IpAddr,
    /// What the client says it is.
    pub user_agent: &'a str,
}

/// The families of all users.
pub struct Families {
    redis: Redis,
    keys: Arc<LiveKeys<Keys>>,
    lifetimes: Lifetimes,
    ender: SessionEnder,
    audit: Audit,
    reopener: Reopener,
    pulse: Pulse,
    owners: Owners,
    marks: Marks,
}

impl Families {
    /// Families in Redis, with tokens sealed by `keys`.
    pub fn new(
        stores: &Stores,
        keys: Arc<LiveKeys<Keys>>,
        lifetimes: Lifetimes,
        ender: SessionEnder,
        audit: Audit,
        marks: Marks,
        life: &Lifecycle,
    ) -> Self {
        let Stores { redis, postgres } = stores.clone();
        let reopener = Reopener::new(redis.clone(), audit.clone(), life.clone());
        let owners = Owners::new(redis.clone(), postgres, ender.clone(), audit.clone(), lifetimes.absolute, life);
        let pulse = Pulse::start(life);
        Self { redis, keys, lifetimes, ender, audit, reopener, pulse, owners, marks }
    }

    /// The token behind what a client sent, if it is one of ours.
    pub fn open(&self, text: &str) -> Option<RefreshToken> {
        self.keys.load().refresh.open(text)
    }

    /// Opens a session for a user. Their grants, as Postgres has them, count from then on, unless newer ones do already.
    pub async fn issue(
        &self,
        owner: &Owner,
        username: Arc<str>,
        grants: &Grants,
        from: Origin<'_>,
    ) -> Result<Issued, FamilyError> {
        let user_id = owner.id;
        let token = RefreshToken::first(user_id, Uuid::new_v4())?;
        let until = Instant::now() + self.redis.call_timeout();
        let keys = [
            keys::family(user_id, token.family),
            keys::families(user_id),
            keys::revocations(user_id),
            keys::grants(user_id),
            keys::identity(user_id),
            keys::mark(user_id),
        ];
        loop {
            let arguments: Vec<Value> = vec![
                token.family.to_string().into(),
                user_id.into(),
                (&*username).into(),
                token.secret_digest().into(),
                self.redis.time().at(until).into(),
                millis(self.lifetimes.refresh).into(),
                millis(self.lifetimes.absolute).into(),
                from.address.to_string().into(),
                from.user_agent.into(),
                i64::from(self.lifetimes.most).into(),
                self.ender.keep_for().into(),
                keys::family_prefix(user_id).into(),
                grants.version.into(),
                grants.rooms_json().into(),
                owner.uid.to_string().into(),
                owner.since().into(),
            ];
            let reply: Vec<Value> = self.redis.commit(&ISSUE, &keys, arguments, until).await?;
            let number = |index: usize| reply.get(index).and_then(Value::as_i64);
            match (number(0), number(1), number(2)) {
                (Some(1), Some(now), Some(expires)) => {
                    self.redis.time().learn(now);
                    let (evicted, replaced) = (families_in(reply.get(3)), families_in(reply.get(5)));
                    let session = self.session(&token, username, now, expires, reply.get(4));
                    let session = Session { uid: Some(owner.uid), ..session };
                    return Ok(Issued { session, evicted, replaced });
                }
                (Some(2), Some(_), _) => self.redis.too_late(&reply[1], until, &ISSUE)?,
                _ => return Err(ISSUE.unexpected_reply().into()),
            }
        }
    }

    /// Trades a refresh token for its successor. A replay is recorded.
    ///
    /// When the connection to Redis is lost on the way, the script may have run: so the same *attempt* asks again while it
    /// may wait, and is recognised. If it has to give up, the script is told to do nothing any more, and what it may have
    /// done already is looked after as soon as Redis can be reached: a rotation is reopened, so that the client, who is
    /// told 503, can come back with the same token, and a replay is recorded then.
    pub async fn rotate(
        &self,
        old: &RefreshToken,
        retry_key: Option<&str>,
        from: Origin<'_>,
    ) -> Result<Rotation, FamilyError> {
        let until = Instant::now() + self.redis.call_timeout();
        let attempt = Attempt::new(old, from);
        // Half a digest tells keys apart, and is short enough for Redis to keep the hash in its small form.
        let mut retry_digest = retry_key.map(|key| sha256_hex(key.as_bytes())).unwrap_or_default();
        retry_digest.truncate(32);
        let mut answer_lost = false;
        let result = loop {
            match self.ask_to_rotate(old, &retry_digest, &attempt, until).await {
                Ok(reply) => match self.read_rotation(old, &reply, until) {
                    Ok(Reading::Done(rotation)) => break Ok(rotation),
                    Ok(Reading::AskAgain) => {}
                    Ok(Reading::NotVouched) => {
                        self.marks.nudge();
                        if Instant::now() + ASK_AGAIN >= until {
                            break Err(FamilyError::NotVouched);
                        }
                        sleep(ASK_AGAIN).await;
                    }
                    Ok(Reading::Unconfirmed(epoch)) => {
                        if let Err(error) = self.owners.confirm(old.user_id, old.family, Some(epoch)).await {
                            break Err(error);
                        }
                    }
                    Err(error) => break Err(error),
                },
                Err(error) => {
                    answer_lost = true;
                    if Instant::now() + ASK_AGAIN >= until {
                        break Err(error.into());
                    }
                    sleep(ASK_AGAIN).await;
                }
            }
        };
        count(&result);
        if let Some(session) = result.as_ref().ok().and_then(Rotation::session).filter(|session| session.uid.is_none())
        {
            self.owners.bind(session.user_id, session.family);
        }
        match &result {
            Ok(Rotation::Replayed { last_address }) => attempt.was_replay(&self.audit, last_address),
            Err(_) if answer_lost => self.reopener.look_after(attempt),
            _ => {}
        }
        result
    }

    /// Waits until everything is looked after that requests have left behind which had to give up.
    pub async fn finish(&self) {
        self.reopener.finish().await;
    }

    async fn ask_to_rotate(
        &self,
        old: &RefreshToken,
        retry_digest: &str,
        attempt: &Attempt,
        until: Instant,
    ) -> Result<Vec<Value>, RedisError> {
        let keys = [
            attempt.family_key(),
            keys::families(old.user_id),
            keys::revocations(old.user_id),
            keys::grants(old.user_id),
            keys::identity(old.user_id),
            keys::mark(old.user_id),
        ];
        let arguments: Vec<Value> = vec![
            old.family.to_string().into(),
            old.user_id.into(),
            old.secret_digest().into(),
            i64::from(old.generation).into(),
            retry_digest.into(),
            attempt.id.to_string().into(),
            self.redis.time().at(until).into(),
            millis(self.lifetimes.refresh).into(),
            millis(self.lifetimes.reuse_grace).into(),
            self.ender.keep_for().into(),
            i64::from(self.redis.is_settled(&keys[0]) && self.pulse.is_steady()).into(),
            attempt.address.to_string().into(),
        ];
        self.redis.commit(&ROTATE, &keys, arguments, until).await
    }

    /// Ends the session to which a refresh token of any generation belongs. Whether it was alive makes no difference.
    pub async fn end(&self, token: &RefreshToken, why: Why) -> Result<Ended, FamilyError> {
        let digest = token.secret_digest();
        Ok(self.ender.revoke(token.user_id, token.family, Some(&digest), why).await?)
    }

    fn session(
        &self,
        token: &RefreshToken,
        username: Arc<str>,
        now: i64,
        expires: i64,
        rooms: Option<&Value>,
    ) -> Session {
        Session {
            user_id: token.user_id,
            uid: None,
            username,
            family: token.family,
            refresh_token: self.keys.load().refresh.seal(token),
            expires_in: Duration::from_millis(u64::try_from(expires - now).unwrap_or(0)),
            rooms: grants::rooms_of(rooms),
        }
    }
}

/// The sessions that a script names.
fn families_in(reply: Option<&Value>) -> Vec<Uuid> {
    let named = reply.cloned().unwrap_or(Value::Null).convert::<Vec<String>>().unwrap_or_default();
    named.iter().filter_map(|family| family.parse().ok()).collect()
}

fn count(result: &Result<Rotation, FamilyError>) {
    let outcome = match result {
        Ok(Rotation::Rotated(_)) => "rotated",
        Ok(Rotation::Retried(_)) => "retried",
        Ok(Rotation::RolledForward(_)) => "rolled_forward",
        Ok(Rotation::TradedAnew(_)) => "traded_anew",
        Ok(Rotation::Superseded) => "superseded",
        Ok(Rotation::KeyReused) => "key_reused",
        Ok(Rotation::Replayed { .. }) => "replayed",
        Ok(Rotation::Revoked) => "revoked",
        Ok(Rotation::Unknown) => "unknown",
        Err(_) => "unavailable",
    };
    counter!("gatefold_family_rotations_total", "outcome" => outcome).increment(1);
}
