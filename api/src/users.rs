//! Users in Postgres.

use std::{future::Future, time::Duration};

use metrics::histogram;
use sqlx::PgPool;
use tokio::time::{Instant, timeout};

/// A user, as far as logging in needs to know.
pub struct User {
    pub id: i64,
    pub username: String,
    pub password_hash: String,
}

/// Why nothing is known about users.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// Postgres is away, slow or refuses.
    #[error("postgres: {0}")]
    Postgres(#[from] sqlx::Error),
    /// No answer in time.
    #[error("postgres did not answer within {0:?}")]
    Timeout(Duration),
    /// The name belongs to somebody, perhaps in other letters.
    #[error("the username is taken")]
    Taken,
}

impl UserError {
    /// Whether Postgres was away rather than unwilling: the same request may succeed in a moment.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Timeout(_) => true,
            // Classes of SQLSTATE: connection exception, insufficient resources, operator intervention, system error.
            Self::Postgres(sqlx::Error::Database(error)) => {
                error.code().is_some_and(|code| ["08", "53", "57", "58"].iter().any(|class| code.starts_with(class)))
            }
            Self::Postgres(error) => matches!(
                error,
                sqlx::Error::Io(_)
                    | sqlx::Error::Tls(_)
                    | sqlx::Error::Protocol(_)
                    | sqlx::Error::PoolTimedOut
                    | sqlx::Error::PoolClosed
                    | sqlx::Error::WorkerCrashed
            ),
            Self::Taken => false,
        }
    }
}

/// Whether `name` could be a username: 3 to 64 ASCII letters, digits, `_`, `.` and `-`.
pub fn is_username(name: &str) -> bool {
    (3..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// The user of this name, without regard to case.
pub async fn by_name(postgres: &PgPool, name: &str, limit: Duration) -> Result<Option<User>, UserError> {
    let query =
        sqlx::query_as!(User, "SELECT id, username, password_hash FROM users WHERE lower(username) = lower($1)", name);
    within(limit, "user_by_name", query.fetch_optional(postgres)).await
}

/// Adds a user and returns their id.
pub async fn add(postgres: &PgPool, name: &str, password_hash: &str, limit: Duration) -> Result<i64, UserError> {
    let query = sqlx::query_scalar!(
        "INSERT INTO users (username, password_hash) VALUES ($1, $2) RETURNING id",
        name,
        password_hash
    );
    match within(limit, "user_add", query.fetch_one(postgres)).await {
        Err(UserError::Postgres(sqlx::Error::Database(error))) if error.constraint() == Some("users_username_key") => {
            Err(UserError::Taken)
        }
        result => result,
    }
}

/// Whether Postgres answers, and has the schema that we need.
pub async fn ready(postgres: &PgPool, limit: Duration) -> Result<(), UserError> {
    let query = sqlx::query_scalar!("SELECT EXISTS (SELECT FROM users)");
    within(limit, "ready", query.fetch_one(postgres)).await.map(drop)
}

async fn within<T>(
    limit: Duration,
    name: &'static str,
    query: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, UserError> {
    let started = Instant::now();
    let result = timeout(limit, query).await;
    histogram!("postgres_query_duration_seconds", "query" => name).record(started.elapsed());
    Ok(result.map_err(|_| UserError::Timeout(limit))??)
}
