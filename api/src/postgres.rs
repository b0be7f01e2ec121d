//! The connection to Postgres, and how long anybody waits for it.

use std::{str::FromStr, time::Duration};

use metrics::gauge;
use secrecy::ExposeSecret;
use sqlx::{
    ConnectOptions, PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::interval;

use crate::config::DatabaseConfig;

/// The schema, compiled in, so that `gatefold-api migrate` needs no files.
pub fn migrator() -> Migrator {
    sqlx::migrate!("../migrations")
}

/// A pool that connects when it is first used: Postgres may come later than we do. No query, nor the wait for a
/// connection, takes longer than `call_timeout`.
pub fn connect(config: &DatabaseConfig, call_timeout: Duration) -> Result<PgPool, sqlx::Error> {
    let milliseconds = call_timeout.as_millis().to_string();
    let options = options(config)?.options([("statement_timeout", milliseconds.as_str())]);
    let pool = PgPoolOptions::new().max_connections(config.db_pool_size).acquire_timeout(call_timeout);
    Ok(pool.connect_lazy_with(options))
}

/// Tells how much of the pool is in use, again and again.
pub async fn watch(pool: PgPool) {
    gauge!("postgres_pool_size").set(pool.options().get_max_connections());
    let mut tick = interval(Duration::from_secs(1));
    loop {
        tick.tick().await;
        let (open, idle) = (pool.size(), u32::try_from(pool.num_idle()).unwrap_or(u32::MAX));
        gauge!("postgres_pool_connections", "state" => "idle").set(idle);
        gauge!("postgres_pool_connections", "state" => "used").set(open.saturating_sub(idle));
    }
}

/// How to connect, from the configuration alone.
pub fn options(config: &DatabaseConfig) -> Result<PgConnectOptions, sqlx::Error> {
    let options = match &config.database_url {
        Some(url) => PgConnectOptions::from_str(url.expose_secret())?,
        None => PgConnectOptions::new_without_pgpass()
            .host(&config.db_host)
            .port(config.db_port)
            .username(&config.db_user)
            .password(config.db_password.expose_secret())
            .database(&config.db_name),
    };
    // Statements are not logged, at no level: their parameters are not in them, but one day they might be.
    Ok(options.application_name("gatefold-api").disable_statement_logging())
}
