//! Users in Postgres.

use std::{future::Future, time::Duration};

use gatefold_shared::{grants::Grants, trace::Span};
use metrics::{counter, histogram};
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use tokio::time::{Instant, timeout};

/// A user, as far as logging in needs to know.
pub struct User {
    pub id: i64,
    pub username: String,
    pub password_hash: String,
    pub disabled_at: Option<OffsetDateTime>,
    /// Changes with whatever makes earlier log-ins worthless.
    pub security_version: i32,
    /// Counts the changes of the user's grants.
    pub grants_version: i64,
    /// The private rooms that were granted.
    pub rooms: Vec<String>,
}

impl User {
    /// Which private rooms the user may enter.
    pub fn grants(&self) -> Grants {
        Grants { version: self.grants_version, rooms: self.rooms.iter().map(|room| room.as_str().into()).collect() }
    }
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
    #[error("The username is taken")]
    Taken,
}

impl UserError {
    /// Whether Postgres was away rather than unwilling: the same request may succeed in a moment.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Timeout(_) => true,
            // SQLSTATE: connection exception, read-only (a standby, in a fail-over), rolled back for others' sake, insufficient
            // resources, operator intervention, system error.
            Self::Postgres(sqlx::Error::Database(error)) => error.code().is_some_and(|code| {
                ["08", "25006", "40", "53", "57", "58"].iter().any(|class| code.starts_with(class))
            }),
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

/// The user of this name, without regard to the case of ASCII letters, of which names are made.
pub async fn by_name(postgres: &PgPool, name: &str, limit: Duration) -> Result<Option<User>, UserError> {
    let query = sqlx::query_as!(
        User,
        r#"SELECT id, username, password_hash, disabled_at, security_version, grants_version,
                  ARRAY(SELECT room FROM grants WHERE user_id = users.id ORDER BY room) AS "rooms!"
           FROM users WHERE lower(username COLLATE "C") = lower($1 COLLATE "C")"#,
        name
    );
    within(limit, "user_by_name", query.fetch_optional(postgres)).await
}

/// The user with this id.
pub async fn by_id(postgres: &PgPool, id: i64, limit: Duration) -> Result<Option<User>, UserError> {
    let query = sqlx::query_as!(
        User,
        r#"SELECT id, username, password_hash, disabled_at, security_version, grants_version,
                  ARRAY(SELECT room FROM grants WHERE user_id = users.id ORDER BY room) AS "rooms!"
           FROM users WHERE id = $1"#,
        id
    );
    within(limit, "user_by_id", query.fetch_optional(postgres)).await
}

/// All users, by id.
pub async fn all(postgres: &PgPool, limit: Duration) -> Result<Vec<User>, UserError> {
    let query = sqlx::query_as!(
        User,
        r#"SELECT id, username, password_hash, disabled_at, security_version, grants_version,
                  ARRAY(SELECT room FROM grants WHERE user_id = users.id ORDER BY room) AS "rooms!"
           FROM users ORDER BY id"#
    );
    within(limit, "users", query.fetch_all(postgres)).await
}

/// When a user was added.
pub async fn created_at(postgres: &PgPool, id: i64, limit: Duration) -> Result<OffsetDateTime, UserError> {
    let query = sqlx::query_scalar!("SELECT created_at FROM users WHERE id = $1", id);
    within(limit, "user_created_at", query.fetch_one(postgres)).await
}

/// Adds a user and returns their id.
pub async fn add(
    postgres: &mut PgConnection,
    name: &str,
    password_hash: &str,
    limit: Duration,
) -> Result<i64, UserError> {
    let query = sqlx::query_scalar!(
        "INSERT INTO users (username, password_hash) VALUES ($1, $2) RETURNING id",
        name,
        password_hash
    );
    match within(limit, "user_add", query.fetch_one(postgres)).await {
        Err(UserError::Postgres(sqlx::Error::Database(error)))
            if matches!(error.constraint(), Some("users_username_key" | "users_username_c_key")) =>
        {
            Err(UserError::Taken)
        }
        result => result,
    }
}

/// Whether nothing has made a log-in worthless that began when the user was at `security_version`. Waits for a change that
/// is being made.
pub async fn is_current(postgres: &PgPool, user: &User, limit: Duration) -> Result<bool, UserError> {
    let query = sqlx::query_scalar!(
        "SELECT id FROM users WHERE id = $1 AND security_version = $2 AND disabled_at IS NULL FOR SHARE",
        user.id,
        user.security_version
    );
    Ok(within(limit, "user_is_current", query.fetch_optional(postgres)).await?.is_some())
}

/// Stores the same password under newer parameters, unless it was changed meanwhile.
pub async fn rehash(postgres: &PgPool, user: &User, password_hash: &str, limit: Duration) -> Result<(), UserError> {
    let query = sqlx::query!(
        "UPDATE users SET password_hash = $3 WHERE id = $1 AND password_hash = $2",
        user.id,
        user.password_hash,
        password_hash
    );
    within(limit, "user_rehash", query.execute(postgres)).await.map(drop)
}

/// Changes a password, unless it was changed since `user` was read; tells whether it was.
pub async fn change_password(
    postgres: &mut PgConnection,
    user: &User,
    password_hash: &str,
    limit: Duration,
) -> Result<bool, UserError> {
    let query = sqlx::query!(
        "UPDATE users SET password_hash = $3, security_version = security_version + 1
         WHERE id = $1 AND security_version = $2",
        user.id,
        user.security_version,
        password_hash
    );
    let result = within(limit, "user_change_password", query.execute(postgres)).await?;
    Ok(result.rows_affected() == 1)
}

/// Lets a user in no more, or again.
pub async fn set_disabled(
    postgres: &mut PgConnection,
    id: i64,
    disabled: bool,
    limit: Duration,
) -> Result<(), UserError> {
    let query = sqlx::query!(
        "UPDATE users SET security_version = security_version + 1,
                disabled_at = CASE WHEN $2 THEN coalesce(disabled_at, now()) END
         WHERE id = $1",
        id,
        disabled
    );
    within(limit, "user_set_disabled", query.execute(postgres)).await.map(drop)
}

/// Deletes a user.
pub async fn delete(postgres: &mut PgConnection, id: i64, limit: Duration) -> Result<(), UserError> {
    let query = sqlx::query!("DELETE FROM users WHERE id = $1", id);
    within(limit, "user_delete", query.execute(postgres)).await.map(drop)
}

/// Whether Postgres answers, and has the schema that we need.
pub async fn ready(postgres: &PgPool, limit: Duration) -> Result<(), UserError> {
    let query =
        sqlx::query_scalar!("SELECT EXISTS (SELECT grants_version, (SELECT key FROM events LIMIT 1) FROM users)");
    within(limit, "ready", query.fetch_one(postgres)).await.map(drop)
}

/// Waits for a query, but not for long.
pub async fn within<T>(
    limit: Duration,
    name: &'static str,
    query: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, UserError> {
    let (started, span) = (Instant::now(), Span::postgres(name));
    let result = timeout(limit, query).await.map_err(|_| UserError::Timeout(limit)).and_then(|result| Ok(result?));
    histogram!("postgres_query_duration_seconds", "query" => name).record(started.elapsed());
    if result.is_err() {
        counter!("postgres_query_errors_total", "query" => name).increment(1);
    }
    span.end(&result);
    result
}
