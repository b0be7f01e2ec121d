//! Users in Postgres.

use std::time::Duration;

use gatefold_shared::grants::Grants;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;

use crate::postgres::{PostgresError, within};

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

/// Most characters of a username.
pub const LONGEST_NAME: usize = 64;

/// Whether `name` could be a username: 3 to 64 ASCII letters, digits, `_`, `.` and `-`.
pub fn is_username(name: &str) -> bool {
    (3..=LONGEST_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// The user of this name, without regard to the case of ASCII letters, of which names are made.
pub async fn by_name(postgres: &PgPool, name: &str, limit: Duration) -> Result<Option<User>, PostgresError> {
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
pub async fn by_id(postgres: &PgPool, id: i64, limit: Duration) -> Result<Option<User>, PostgresError> {
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
pub async fn all(postgres: &PgPool, limit: Duration) -> Result<Vec<User>, PostgresError> {
    let query = sqlx::query_as!(
        User,
        r#"SELECT id, username, password_hash, disabled_at, security_version, grants_version,
                  ARRAY(SELECT room FROM grants WHERE user_id = users.id ORDER BY room) AS "rooms!"
           FROM users ORDER BY id"#
    );
    within(limit, "users", query.fetch_all(postgres)).await
}

/// When a user was added.
pub async fn created_at(postgres: &PgPool, id: i64, limit: Duration) -> Result<OffsetDateTime, PostgresError> {
    let query = sqlx::query_scalar!("SELECT created_at FROM users WHERE id = $1", id);
    within(limit, "user_created_at", query.fetch_one(postgres)).await
}

/// Adds a user and returns their id, or nothing if the name belongs to somebody, perhaps in other letters.
pub async fn add(
    postgres: &mut PgConnection,
    name: &str,
    password_hash: &str,
    limit: Duration,
) -> Result<Option<i64>, PostgresError> {
    let query = sqlx::query_scalar!(
        "INSERT INTO users (username, password_hash) VALUES ($1, $2) RETURNING id",
        name,
        password_hash
    );
    match within(limit, "user_add", query.fetch_one(postgres)).await {
        Err(PostgresError::Query(sqlx::Error::Database(error)))
            if matches!(error.constraint(), Some("users_username_key" | "users_username_c_key")) =>
        {
            Ok(None)
        }
        result => result.map(Some),
    }
}

/// Whether nothing has made a log-in worthless that began when the user was at `security_version`. Waits for a change that
/// is being made, without writing anything: whoever changes a user holds this lock until it is seen (see the migration
/// `user_changes`). In two statements, for one that has waited still sees what was there before it waited.
pub async fn is_current(postgres: &PgPool, user: &User, limit: Duration) -> Result<bool, PostgresError> {
    let query = sqlx::query!("SELECT pg_advisory_xact_lock_shared(hashtextextended('gatefold:user', $1))", user.id);
    within(limit, "user_wait", query.execute(postgres)).await?;
    let query = sqlx::query_scalar!(
        "SELECT id FROM users WHERE id = $1 AND security_version = $2 AND disabled_at IS NULL",
        user.id,
        user.security_version
    );
    Ok(within(limit, "user_is_current", query.fetch_optional(postgres)).await?.is_some())
}

/// Stores the same password under newer parameters, unless it was changed meanwhile.
pub async fn rehash(postgres: &PgPool, user: &User, password_hash: &str, limit: Duration) -> Result<(), PostgresError> {
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
) -> Result<bool, PostgresError> {
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
) -> Result<(), PostgresError> {
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
pub async fn delete(postgres: &mut PgConnection, id: i64, limit: Duration) -> Result<(), PostgresError> {
    let query = sqlx::query!("DELETE FROM users WHERE id = $1", id);
    within(limit, "user_delete", query.execute(postgres)).await.map(drop)
}
