//! Whose the numbers of users are: Postgres knows, and sessions say whose they were.
//!
//! A number is given out again when Postgres was restored from an older copy. The sessions of whoever had it before end as
//! soon as the new owner logs in, is added, or is changed by an administrator; and after Postgres was restored, each session
//! is asked about at its next refresh.

use std::{sync::Arc, time::Duration};

use gatefold_shared::{
    grants,
    lifecycle::Lifecycle,
    redis::{Redis, RedisError, Script, Value, keys, millis},
    revocation::{PRELUDE, SessionEnder, Why},
};
use serde_json::json;
use sqlx::PgPool;
use tokio::sync::Semaphore;
use tracing::{debug, warn};
use uuid::Uuid;

use super::{FamilyError, IDENTITY};
use crate::{
    audit::{Audit, Event, Kind},
    users::{self, Owner},
};

static CLAIM: Script = Script::new("claim", &[PRELUDE, grants::PRELUDE, IDENTITY, include_str!("claim.lua")]);
static CONFIRM: Script = Script::new("confirm", &[PRELUDE, IDENTITY, include_str!("confirm.lua")]);

/// Sessions of version 0.1.0 that are asked about at the same time; others are at a later refresh.
const MAX_AT_ONCE: usize = 4;

/// Ends the sessions of whoever had this number before, and the grants with them.
pub async fn claim(
    redis: &Redis,
    ender: &SessionEnder,
    owner: &Owner,
    absolute: Duration,
) -> Result<Vec<Uuid>, RedisError> {
    let id = owner.id;
    let keys = [keys::identity(id), keys::families(id), keys::revocations(id), keys::grants(id)];
    let arguments: Vec<Value> = vec![
        id.into(),
        owner.uid.to_string().into(),
        owner.since().into(),
        ender.keep_for().into(),
        keys::family_prefix(id).into(),
        millis(absolute).into(),
    ];
    let revoked: Vec<String> = redis.commit(&CLAIM, &keys, arguments, redis.deadline()).await?;
    Ok(revoked.iter().filter_map(|family| family.parse().ok()).collect())
}

/// See the module; clones share what is under way.
#[derive(Clone)]
pub(super) struct Owners {
    redis: Redis,
    postgres: PgPool,
    ender: SessionEnder,
    audit: Audit,
    absolute: Duration,
    life: Lifecycle,
    places: Arc<Semaphore>,
}

impl Owners {
    pub(super) fn new(
        redis: Redis,
        postgres: PgPool,
        ender: SessionEnder,
        audit: Audit,
        absolute: Duration,
        life: &Lifecycle,
    ) -> Self {
        let places = Arc::new(Semaphore::new(MAX_AT_ONCE));
        Self { redis, postgres, ender, audit, absolute, life: life.clone(), places }
    }

    /// Asks Postgres whose the number is, and ends the session if it is not theirs. `epoch` is which restoring of Postgres
    /// was the last that is known.
    pub(super) async fn confirm(&self, user_id: i64, family: Uuid, epoch: Option<i64>) -> Result<(), FamilyError> {
        let owner = users::owner(&self.postgres, user_id, self.redis.call_timeout()).await?;
        let keys = [
            keys::family(user_id, family),
            keys::families(user_id),
            keys::revocations(user_id),
            keys::identity(user_id),
        ];
        let arguments: Vec<Value> = vec![
            family.to_string().into(),
            user_id.into(),
            owner.as_ref().map(|owner| owner.uid.to_string()).unwrap_or_default().into(),
            owner.as_ref().map_or(0, Owner::since).into(),
            self.ender.keep_for().into(),
            epoch.map(|epoch| epoch.to_string()).unwrap_or_default().into(),
            millis(self.absolute).into(),
        ];
        let reply: Vec<i64> = self.redis.commit(&CONFIRM, &keys, arguments, self.redis.deadline()).await?;
        match reply[..] {
            [0 | 2] => Ok(()),
            [1] => {
                let why = if owner.is_some() { Why::AccountReplaced } else { Why::Disabled };
                warn!(user.id = user_id, family.id = %family, why = why.as_str(),
                    "a session was not of the present owner of its user's number, and was ended");
                let event = Event::now(Kind::SessionEnded).of_user(user_id).of_session(family);
                self.audit.record(event.with(json!({ "why": why.as_str() })));
                Ok(())
            }
            _ => Err(CONFIRM.unexpected_reply().into()),
        }
    }

    /// Has a session of version 0.1.0 say whose it is, if there is time for it. Nobody waits for that.
    pub(super) fn bind(&self, user_id: i64, family: Uuid) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { return };
        let owners = self.clone();
        self.life.spawn(async move {
            if let Err(error) = owners.confirm(user_id, family, None).await {
                debug!(%error, "a session could not be bound to its user's identity yet");
            }
            drop(place);
        });
    }
}
