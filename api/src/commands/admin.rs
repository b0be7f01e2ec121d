//! What the administrator's commands work with. They use the same stores, scripts and audit as the replicas, so that what
//! they change is as immediate and as visible.

use std::time::Duration;

use anyhow::{Context, anyhow};
use gatefold_shared::{
    config::exit_with,
    grants::{self, Grants},
    lifecycle::Lifecycle,
    redis::Redis,
    revocation::{Ended, SessionEnder, Why},
    rooms::{self, RoomName},
};
use secrecy::ExposeSecret;
use serde_json::json;
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool, postgres::PgConnectOptions};
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    audit::{self, Event, Kind},
    config::Config,
    families::{self, Listed},
    postgres::{options, owner_options},
    state::Stores,
    users::{self, Owner, User},
};

/// See the module.
pub struct Admin {
    pub config: Config,
    pub postgres: PgPool,
    redis: Redis,
    /// What an error of Redis begins with.
    asking_redis: String,
    ender: SessionEnder,
}

impl Admin {
    /// A person waits, so a command may take longer than a request.
    pub const PATIENCE: Duration = Duration::from_secs(30);
    /// Why deleting may have failed.
    pub const NEEDS_OWNER: &str = "deleting is for the owner of the schema (is DATABASE_OWNER_URL right?)";

    /// Ends the process if the stores are not configured as they should be. An error says why Postgres cannot be reached,
    /// which the pool would only find out again and again.
    pub async fn new(config: Config) -> anyhow::Result<Self> {
        let life = Lifecycle::without_signals();
        let stores = Stores::connect(&config, Self::PATIENCE, &life);
        let Stores { redis, postgres } =
            stores.unwrap_or_else(|problems| exit_with(problems.iter().map(String::as_str)));
        let at = servers(config.store.redis_url.expose_secret());
        let asking_redis = format!("asking Redis at {at} (is REDIS_URL right?)");
        reach(&options(&config.database)?, "DATABASE_URL").await?.close().await.ok();
        let ender = SessionEnder::new(redis.clone(), config.access_tokens_live());
        Ok(Self { config, postgres, redis, asking_redis, ender })
    }

    /// The user of this name, or an error that says that there is none.
    pub async fn user(&self, name: &str) -> anyhow::Result<User> {
        let user = users::by_name(&self.postgres, users::trimmed(name), Self::PATIENCE).await?;
        user.with_context(|| format!("there is no user {name}"))
    }

    /// Postgres as the owner of the schema, who alone may delete users and events.
    pub async fn owner(&self) -> anyhow::Result<PgConnection> {
        let options = owner_options(&self.config.database).context("DATABASE_OWNER_URL")?;
        reach(&options, "DATABASE_OWNER_URL").await
    }

    /// The living sessions of a user.
    pub async fn sessions(&self, user_id: i64) -> anyhow::Result<Vec<Listed>> {
        families::list(&self.redis, user_id).await.with_context(|| self.asking_redis.clone())
    }

    /// Ends one session of a user.
    pub async fn revoke(&self, user_id: i64, family: Uuid, why: Why) -> anyhow::Result<Ended> {
        self.ender.revoke(user_id, family, None, why).await.with_context(|| self.asking_redis.clone())
    }

    /// Ends all sessions of a user.
    pub async fn revoke_all(&self, user_id: i64, why: Why) -> anyhow::Result<u64> {
        self.ender.revoke_all(user_id, None, why).await.with_context(|| self.asking_redis.clone())
    }

    /// Ends the sessions of whoever had a user's number before.
    pub async fn claim(&self, owner: &Owner) -> anyhow::Result<()> {
        let absolute = self.config.tokens.session_absolute_expiry;
        let replaced = families::claim(&self.redis, &self.ender, owner, absolute).await;
        let replaced = replaced.with_context(|| self.asking_redis.clone())?;
        let event = || Event::now(Kind::SessionEnded).of_user(owner.id);
        let why = json!({ "why": Why::AccountReplaced.as_str(), "by": "administrator" });
        let events: Vec<Event> =
            replaced.into_iter().map(|family| event().of_session(family).with(why.clone())).collect();
        Ok(audit::append(&self.postgres, &events, Self::PATIENCE).await?)
    }

    /// Makes a user's grants count.
    pub async fn write_grants(&self, user_id: i64, grants: &Grants) -> anyhow::Result<()> {
        let written = grants::write(&self.redis, user_id, grants, self.redis.deadline()).await;
        written.with_context(|| self.asking_redis.clone())
    }

    /// Ends a user's membership of a room, wherever they are connected.
    pub async fn expel(&self, room: &RoomName, user_id: i64) -> anyhow::Result<()> {
        let expelled = rooms::expel(&self.redis, room, user_id, self.redis.deadline()).await;
        expelled.with_context(|| self.asking_redis.clone())
    }
}

/// Opens a connection to Postgres, or says where there is none and why. `variable` says who is to log in.
pub async fn reach(options: &PgConnectOptions, variable: &str) -> anyhow::Result<PgConnection> {
    let server = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    let connecting = timeout(Admin::PATIENCE, options.connect()).await;
    let connected = connecting.map_err(|_| anyhow!("no answer within {:?}", Admin::PATIENCE)).and_then(|it| Ok(it?));
    connected.with_context(|| format!("cannot reach Postgres at {server} (is {variable} right?)"))
}

/// The servers that a URL names, without who logs in there.
fn servers(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    authority.rsplit_once('@').map_or(authority, |(_, server)| server)
}

/// Writes an event, in the transaction of what it tells of where there is one: both are kept, or neither.
pub async fn record(postgres: &mut PgConnection, event: Event) -> anyhow::Result<()> {
    Ok(audit::append(postgres, &[event], Admin::PATIENCE).await?)
}

#[cfg(test)]
mod tests {
    use super::servers;

    #[test]
    fn an_error_names_the_server_and_no_password() {
        for url in
            ["redis://host:6379", "rediss://user:p@ss@host:6379/0", "redis://:secret@host:6379?a=b@c", "host:6379"]
        {
            assert_eq!(servers(url), "host:6379", "{url}");
        }
    }
}
