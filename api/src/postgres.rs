//! The connection to Postgres, how long anybody waits for it, and why there is no answer.

mod pool;
mod url;

use std::{future::Future, time::Duration};

use gatefold_shared::{
    clock::{self, Lead},
    trace::Span,
};
use metrics::{counter, gauge, histogram};
use secrecy::ExposeSecret;
use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool, PgTransaction, migrate::Migrator, postgres::PgConnectOptions,
};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::warn;

use crate::config::DatabaseConfig;

/// Why there is no answer from Postgres.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// It is away, slow or refuses.
    #[error("postgres: {0}")]
    Query(#[from] sqlx::Error),
    /// No answer in time.
    #[error("postgres did not answer within {0:?}")]
    Timeout(Duration),
}

impl PostgresError {
    /// Whether it took no writes: it is a standby, or was told so.
    pub fn is_read_only(&self) -> bool {
        matches!(self, Self::Query(sqlx::Error::Database(error)) if error.code().as_deref() == Some("25006"))
    }

    /// Whether it was away rather than unwilling: the same request may succeed in a moment.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Timeout(_) => true,
            // SQLSTATE: connection exception, read-only (a standby, in a fail-over), rolled back for others' sake, insufficient
            // resources, operator intervention, system error.
            Self::Query(sqlx::Error::Database(error)) => error.code().is_some_and(|code| {
                ["08", "25006", "40", "53", "57", "58"].iter().any(|class| code.starts_with(class))
            }),
            Self::Query(error) => matches!(
                error,
                sqlx::Error::Io(_)
                    | sqlx::Error::Tls(_)
                    | sqlx::Error::Protocol(_)
                    | sqlx::Error::PoolTimedOut
                    | sqlx::Error::PoolClosed
                    | sqlx::Error::WorkerCrashed
            ),
        }
    }
}

/// Waits for a query, but not for long.
pub async fn within<T>(
    limit: Duration,
    name: &'static str,
    query: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, PostgresError> {
    let (started, span) = (Instant::now(), Span::postgres(name));
    let result = timeout(limit, query).await.map_err(|_| PostgresError::Timeout(limit)).and_then(|result| Ok(result?));
    histogram!("gatefold_postgres_query_duration_seconds", "query" => name).record(started.elapsed());
    if result.is_err() {
        counter!("gatefold_postgres_query_errors_total", "query" => name).increment(1);
    }
    span.end(&result);
    result
}

/// Begins a transaction, which is taken back unless it comes to [`commit`].
pub async fn begin(postgres: &PgPool, limit: Duration) -> Result<PgTransaction<'static>, PostgresError> {
    within(limit, "begin", postgres.begin()).await
}

/// Keeps what a transaction changed. After an error nobody knows whether it did.
pub async fn commit(transaction: PgTransaction<'static>, limit: Duration) -> Result<(), PostgresError> {
    within(limit, "commit", transaction.commit()).await
}

/// Whether Postgres answers, takes writes, and has the schema that we need. What is written is nothing.
pub async fn ready(postgres: &PgPool, limit: Duration) -> Result<(), PostgresError> {
    let query = sqlx::query_scalar!(
        "WITH nothing AS (INSERT INTO events (at, kind) SELECT now(), '' WHERE false RETURNING id)
         SELECT EXISTS (SELECT uid, (SELECT uid FROM events LIMIT 1) FROM users, store_marks)"
    );
    within(limit, "ready", query.fetch_one(postgres)).await.map(drop)
}

/// Logs a failure of the pool with its cause. The pool goes on trying while connections are refused, and then only says that
/// there was none in time: so one is made beside it, which tells why not.
pub async fn log_failure(postgres: &PgPool, error: &PostgresError, limit: Duration, message: &'static str) {
    let no_answer = matches!(error, PostgresError::Timeout(_) | PostgresError::Query(sqlx::Error::PoolTimedOut));
    let cause = if no_answer { connection_error(postgres, limit / 10).await } else { None };
    let options = postgres.connect_options();
    let server = format!("{}:{}", options.get_host(), options.get_port());
    warn!(server, %error, cause = cause.map(tracing::field::display), "{message}");
}

/// Why no connection can be made, if that shows within `limit`.
async fn connection_error(postgres: &PgPool, limit: Duration) -> Option<sqlx::Error> {
    let attempt = async { PgConnection::connect_with(&postgres.connect_options()).await?.close().await };
    timeout(limit, attempt).await.ok()?.err()
}

/// How far the clock of this machine is ahead of Postgres's.
pub async fn lead_over_clock(postgres: &PgPool, limit: Duration) -> Result<Lead, PostgresError> {
    let query = sqlx::query_scalar!(r#"SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS "now!""#);
    let before = clock::now();
    let reading = within(limit, "clock", query.fetch_one(postgres)).await?;
    Ok(Lead::over(reading, before, clock::now()))
}

/// The schema, compiled in, so that `gatefold-api migrate` needs no files.
pub fn migrator() -> Migrator {
    sqlx::migrate!("../migrations")
}

/// A pool that connects when it is first used: Postgres may come later than we do. No query, nor the wait for a
/// connection, takes longer than `call_timeout`.
pub fn connect(config: &DatabaseConfig, call_timeout: Duration) -> Result<PgPool, sqlx::Error> {
    let milliseconds = call_timeout.as_millis().to_string();
    // The server sends keepalives: whatever stands in between remembers an idle connection, and the server forgets one whose
    // client is gone.
    let options = options(config)?.options([
        ("statement_timeout", milliseconds.as_str()),
        ("tcp_keepalives_idle", "60"),
        ("tcp_keepalives_interval", "10"),
        ("tcp_keepalives_count", "3"),
    ]);
    Ok(pool::options(config.db_pool_size, call_timeout).connect_lazy_with(options))
}

/// Tells how much of the pool is in use, again and again.
pub async fn watch(pool: PgPool) {
    gauge!("gatefold_postgres_pool_size").set(pool.options().get_max_connections());
    let mut tick = interval(Duration::from_secs(1));
    loop {
        tick.tick().await;
        let (open, idle) = (pool.size(), u32::try_from(pool.num_idle()).unwrap_or(u32::MAX));
        gauge!("gatefold_postgres_pool_connections", "state" => "idle").set(idle);
        gauge!("gatefold_postgres_pool_connections", "state" => "used").set(open.saturating_sub(idle));
    }
}

/// Measures how many connections Postgres has and may have, whoever made them, again and again: where they are used up, no
/// replica gets another one.
pub async fn measure_connections(pool: PgPool, limit: Duration) {
    let mut tick = interval(Duration::from_secs(10));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let query = sqlx::query!(
            r#"SELECT coalesce(sum(numbackends), 0)::integer AS "used!",
                current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer
                    AS "limit!"
            FROM pg_stat_database"#
        );
        let (used, limit) = match within(limit, "connections", query.fetch_one(&pool)).await {
            Ok(figures) => (f64::from(figures.used), f64::from(figures.limit)),
            // Nothing is known: not that there are none.
            Err(_) => (f64::NAN, f64::NAN),
        };
        gauge!("gatefold_postgres_server_connections").set(used);
        gauge!("gatefold_postgres_server_connections_limit").set(limit);
    }
}

/// How to connect with the role of the replicas, from the configuration alone.
pub fn options(config: &DatabaseConfig) -> Result<PgConnectOptions, sqlx::Error> {
    let options = match &config.database_url {
        Some(url) => url::parse(url)?,
        None => PgConnectOptions::new_without_pgpass()
            .host(&config.db_host)
            .port(config.db_port)
            .username(&config.db_user)
            .password(config.db_password.expose_secret())
            .database(&config.db_name),
    };
    Ok(quiet(options))
}

/// How to connect as the owner of the schema: with the role of the replicas, unless another is configured.
pub fn owner_options(config: &DatabaseConfig) -> Result<PgConnectOptions, sqlx::Error> {
    match &config.database_owner_url {
        Some(url) => Ok(quiet(url::parse(url)?)),
        None => options(config),
    }
}

/// Statements are not logged, at no level: their parameters are not in them, but one day they might be.
fn quiet(options: PgConnectOptions) -> PgConnectOptions {
    options.application_name("gatefold-api").disable_statement_logging()
}
