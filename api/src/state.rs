//! What the handlers work with: one struct, made once, shared by all requests.

use std::{sync::Arc, time::Duration};

use gatefold_shared::{
    budgets::{Budget, Budgets},
    clock::ClockCheck,
    lifecycle::Lifecycle,
    limit::Limit,
    live_keys::LiveKeys,
    redis::{Redis, measure_memory},
    revocation::{Revocations, SessionEnder},
};
use serde_json::json;
use sqlx::PgPool;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    audit::{Audit, Event, Kind},
    config::{Config, Registration},
    cookies::RefreshCookies,
    device_cookie::DeviceCookies,
    effects::Effects,
    families::{Families, Lifetimes},
    keys::Keys,
    limited_logins::{self, LimitedLogins},
    limits::Limits,
    marks::Marks,
    passwords::Passwords,
    postgres,
};

/// The stores of a replica, and of the commands beside it; clones share their connections.
#[derive(Clone)]
pub struct Stores {
    pub redis: Redis,
    pub postgres: PgPool,
}

impl Stores {
    /// Begins to connect to them, or says what is wrong with how they are configured. No query to Postgres takes longer
    /// than `patience`.
    pub fn connect(config: &Config, patience: Duration, life: &Lifecycle) -> Result<Self, Vec<String>> {
        let redis = Redis::connect(&config.store, life).map_err(|error| format!("REDIS_URL: {error}"));
        let postgres = postgres::connect(&config.database, patience).map_err(|error| format!("DATABASE_URL: {error}"));
        match (redis, postgres) {
            (Ok(redis), Ok(postgres)) => Ok(Self { redis, postgres }),
            (redis, postgres) => Err([redis.err(), postgres.err()].into_iter().flatten().collect()),
        }
    }
}

/// How much may be published.
pub struct PublishLimits {
    pub budgets: Budgets,
    pub messages: Budget,
    pub bytes: Budget,
    pub of_a_room: Limit,
}

/// A handle to the replica's state; clones are the same state.
pub type App = Arc<AppState>;

/// See the module.
pub struct AppState {
    pub postgres: PgPool,
    pub redis: Redis,
    pub families: Families,
    pub marks: Marks,
    pub revocations: Revocations,
    /// Whether this machine's clock is right.
    pub clock: ClockCheck,
    pub ender: SessionEnder,
    pub keys: Arc<LiveKeys<Keys>>,
    pub passwords: Passwords,
    pub audit: Audit,
    pub limits: Limits,
    pub limited_logins: Arc<LimitedLogins>,
    pub publish: PublishLimits,
    pub registration_is_open: bool,
    /// The URL of the issuer of access tokens, if one is configured.
    pub issuer: Option<String>,
    pub cookies: RefreshCookies,
    pub device_cookies: DeviceCookies,
    pub draining: CancellationToken,
    pub effects: Effects,
}

impl AppState {
    pub fn new(config: Config, keys: Arc<LiveKeys<Keys>>, stores: &Stores, life: &Lifecycle) -> anyhow::Result<App> {
        let tokens = &config.tokens;
        let lifetimes = Lifetimes {
            refresh: tokens.refresh_token_expiry,
            absolute: tokens.session_absolute_expiry,
            reuse_grace: tokens.refresh_reuse_grace,
            most: tokens.max_sessions_per_user,
        };
        let (redis, postgres) = (stores.redis.clone(), stores.postgres.clone());
        let keep_for = config.access_tokens_live();
        let staleness_limit = config.store.revocation_staleness_limit;
        let revocations = Revocations::follow(redis.clone(), staleness_limit, life);
        let clock = follow_clocks(&redis, &postgres, config.store.call_timeout(), life);
        let ender = SessionEnder::new(redis.clone(), keep_for);
        life.spawn_forever("watch the pool of postgres", postgres::watch(postgres.clone()));
        let connections = postgres::measure_connections(postgres.clone(), config.store.call_timeout());
        life.spawn_forever("measure the connections of postgres", connections);
        life.spawn_forever("measure the memory of redis", measure_memory(redis.clone()));
        let audit = Audit::start(postgres.clone(), config.store.call_timeout(), life);
        let marks = Marks::start(stores, ender.clone(), audit.clone(), lifetimes.absolute, life);
        let families =
            Families::new(stores, Arc::clone(&keys), lifetimes, ender.clone(), audit.clone(), marks.clone(), life);
        let limited_logins = Arc::<LimitedLogins>::default();
        life.spawn_forever("record limited logins", limited_logins::record(Arc::clone(&limited_logins), audit.clone()));
        let limit_wait = config.store.limit_wait();
        let reloaded = keys.reloaded();
        let app = Arc::new(Self {
            publish: PublishLimits {
                budgets: Budgets::start(redis.rooms(), life),
                messages: config.publish.publishes(),
                bytes: config.publish.bytes(),
                of_a_room: config.publish.limit_room_publishes,
            },
            limits: Limits::start(config.limits, redis.clone(), limit_wait, life),
            limited_logins,
            families,
            marks,
            revocations,
            clock,
            ender,
            redis,
            keys,
            audit,
            postgres,
            registration_is_open: config.registration == Registration::Open,
            issuer: config.public_keys.issuer.url().map(str::to_owned),
            passwords: Passwords::new(&config.passwords)?,
            device_cookies: DeviceCookies::new(&config.cookie),
            cookies: RefreshCookies::new(config.cookie),
            draining: life.draining().clone(),
            effects: Effects::new(config.listen.max_connections.saturating_mul(2), life),
        });
        life.spawn_forever("record key changes", record_key_changes(Arc::clone(&app), reloaded));
        Ok(app)
    }
}

fn follow_clocks(redis: &Redis, postgres: &PgPool, limit: Duration, life: &Lifecycle) -> ClockCheck {
    let postgres = postgres.clone();
    ClockCheck::follow(redis.clone(), life, move || {
        let postgres = postgres.clone();
        async move {
            let lead = postgres::lead_over_clock(&postgres, limit).await;
            if let Err(error) = &lead {
                postgres::log_failure(&postgres, error, limit, "postgres does not tell its time").await;
            }
            lead.ok()
        }
    })
}

/// Each replica records which key it signs with from now on: whoever reads the audit sees that none was left behind.
async fn record_key_changes(app: App, mut reloaded: watch::Receiver<()>) {
    while reloaded.changed().await.is_ok() {
        let signs = app.keys.load().signer.kid().to_owned();
        app.audit.record(Event::now(Kind::KeysChanged).with(json!({ "signs": signs })));
    }
}
