//! What the administrator's commands work with. They use the same stores, scripts and audit as the replicas, so that what
//! they change is as immediate and as visible.

use std::time::Duration;

use anyhow::Context;
use gatefold_shared::{
    config::exit_with,
    grants::{self, Grants},
    lifecycle::Lifecycle,
    redis::Redis,
    revocation::{Ended, SessionEnder, Why},
    rooms::{self, RoomName},
};
use serde_json::json;
use sqlx::{ConnectOptions, PgConnection, PgPool};
use uuid::Uuid;

use crate::{
    audit::{self, Event, Kind},
    config::Config,
    families::{self, Listed},
    postgres::owner_options,
    state::Stores,
    users::{self, Owner, User},
};

/// See the module.
pub struct Admin {
    pub config: Config,
    pub postgres: PgPool,
    redis: Redis,
    ender: SessionEnder,
}

impl Admin {
    /// A person waits, so a command may take longer than a request.
    pub const PATIENCE: Duration = Duration::from_secs(30);
    /// Why deleting may have failed.
    pub const NEEDS_OWNER: &str = "deleting is for the owner of the schema (is DATABASE_OWNER_URL right?)";

    /// Ends the process if the stores are not configured as they should be.
    pub fn new(config: Config) -> Self {
        let life = Lifecycle::without_signals();
        let stores = Stores::connect(&config, Self::PATIENCE, &life);
        let Stores { redis, postgres } =
            stores.unwrap_or_else(|problems| exit_with(problems.iter().map(String::as_str)));
        let ender = SessionEnder::new(redis.clone(), config.access_tokens_live());
        Self { config, postgres, redis, ender }
    }

    /// The user of this name, or an error that says that there is none.
    pub async fn user(&self, name: &str) -> anyhow::Result<User> {
        let user = users::by_name(&self.postgres, users::trimmed(name), Self::PATIENCE).await?;
        user.with_context(|| format!("there is no user {name}"))
    }

    /// Postgres as the owner of the schema, who alone may delete users and events.
    pub async fn owner(&self) -> anyhow::Result<PgConnection> {
        let options = owner_options(&self.config.database).context("DATABASE_OWNER_URL")?;
        options.connect().await.context("cannot reach Postgres: is DATABASE_OWNER_URL right?")
    }

    /// The living sessions of a user.
    pub async fn sessions(&self, user_id: i64) -> anyhow::Result<Vec<Listed>> {
        families::list(&self.redis, user_id).await.context("asking Redis (is REDIS_URL right?)")
    }

    /// Ends one session of a user.
    pub async fn revoke(&self, user_id: i64, family: Uuid, why: Why) -> anyhow::Result<Ended> {
        self.ender.revoke(user_id, family, None, why).await.context("asking Redis (is REDIS_URL right?)")
    }

    /// Ends all sessions of a user.
    pub async fn revoke_all(&self, user_id: i64, why: Why) -> anyhow::Result<u64> {
        self.ender.revoke_all(user_id, None, why).await.context("asking Redis (is REDIS_URL right?)")
    }

    /// Ends the sessions of whoever had a user's number before.
    pub async fn claim(&self, owner: &Owner) -> anyhow::Result<()> {
        let absolute = self.config.tokens.session_absolute_expiry;
        let replaced = families::claim(&self.redis, &self.ender, owner, absolute).await?;
        let event = || Event::now(Kind::SessionEnded).of_user(owner.id);
        let why = json!({ "why": Why::AccountReplaced.as_str(), "by": "administrator" });
        let events: Vec<Event> =
            replaced.into_iter().map(|family| event().of_session(family).with(why.clone())).collect();
        Ok(audit::append(&self.postgres, &events, Self::PATIENCE).await?)
    }

    /// Makes a user's grants count.
    pub async fn write_grants(&self, user_id: i64, grants: &Grants) -> anyhow::Result<()> {
        Ok(grants::write(&self.redis, user_id, grants, self.redis.deadline()).await?)
    }

    /// Ends a user's membership of a room, wherever they are connected.
    pub async fn expel(&self, room: &RoomName, user_id: i64) -> anyhow::Result<()> {
        Ok(rooms::expel(&self.redis, room, user_id, self.redis.deadline()).await?)
    }
}

/// Writes an event, in the transaction of what it tells of where there is one: both are kept, or neither.
pub async fn record(postgres: &mut PgConnection, event: Event) -> anyhow::Result<()> {
    Ok(audit::append(postgres, &[event], Admin::PATIENCE).await?)
}
