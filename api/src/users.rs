//! Users in Postgres.

use std::time::Duration;

use gatefold_shared::grants::Grants;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::postgres::{PostgresError, within};

/// A user, as far as logging in needs to know.
pub struct User {
    pub id: i64,
    pub uid: Uuid,
    pub created_at: OffsetDateTime,
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
        Grants {
            uid: Some(self.uid),
            version: self.grants_version,
            rooms: self.rooms.iter().map(|room| room.as_str().into()).collect(),
        }
    }
}

/// Whose a number is.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    /// The number of the user, which a restored database gives out again.
    pub id: i64,
    /// The identity of the user, which nobody else ever has.
    pub uid: Uuid,
    /// When the account was made: no session of it is older.
    pub created_at: OffsetDateTime,
}

impl Owner {
    /// When the account was made, in milliseconds since 1970.
    pub fn since(&self) -> i64 {
        i64::try_from(self.created_at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
    }
}

impl From<&User> for Owner {
    fn from(user: &User) -> Self {
        Self { id: user.id, uid: user.uid, created_at: user.created_at }
    }
}

/// Most characters of a username.
pub const LONGEST_NAME: usize = 64;

/// The security version of a user who was just added.
pub const FIRST_SECURITY_VERSION: i32 = 0;

/// Names that look as if somebody spoke for the service. An administrator may give them out.
const RESERVED: [&str; 38] = [
    "abuse",
    "admin",
    "administrator",
    "all",
    "anonymous",
    "api",
    "billing",
    "bot",
    "daemon",
    "everybody",
    "everyone",
    "gatefold",
    "guest",
    "help",
    "helpdesk",
    "hostmaster",
    "info",
    "me",
    "mod",
    "moderator",
    "nobody",
    "noreply",
    "null",
    "official",
    "operator",
    "postmaster",
    "root",
    "security",
    "server",
    "service",
    "staff",
    "superuser",
    "support",
    "sysadmin",
    "system",
    "team",
    "undefined",
    "webmaster",
];

/// Why a name cannot be given to a new user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error(
        "a username must have 3 to {LONGEST_NAME} letters, digits, `_`, `.`, `-`, `@` or `+`, and begin with a letter or a digit"
    )]
    Malformed,
    #[error("the username is reserved")]
    Reserved,
}

/// A name as it was meant: without the whitespace around it that a keyboard's completion or a copied cell brings along.
pub fn trimmed(name: &str) -> &str {
    name.trim()
}

/// Whether a user may have this name: 3 to 64 ASCII letters, digits, `_`, `.`, `-`, `@` and `+`. Some older names begin with
/// punctuation, which [`check_new_name`] refuses.
pub fn is_username(name: &str) -> bool {
    (3..=LONGEST_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-@+".contains(&byte))
}

/// Checks that a new user may have the name. One that began with `-` would be an option to commands, and one with `+` or `@`
/// a formula to spreadsheets.
pub fn check_new_name(name: &str) -> Result<(), NameError> {
    if is_username(name) && name.as_bytes()[0].is_ascii_alphanumeric() { Ok(()) } else { Err(NameError::Malformed) }
}

/// Checks that the name is not reserved: `admin`, in whatever case, with whatever punctuation, and in front of `@` or `+`.
pub fn check_not_reserved(name: &str) -> Result<(), NameError> {
    let local = name.split(['@', '+']).next().unwrap_or_default();
    let letters: String = local.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    if RESERVED.contains(&letters.as_str()) { Err(NameError::Reserved) } else { Ok(()) }
}

/// The user of this name, without regard to the case of ASCII letters, of which names are made.
pub async fn by_name(postgres: &PgPool, name: &str, limit: Duration) -> Result<Option<User>, PostgresError> {
    let query = sqlx::query_as!(
        User,
        r#"SELECT id, uid, created_at, username, password_hash, disabled_at, security_version, grants_version,
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
        r#"SELECT id, uid, created_at, username, password_hash, disabled_at, security_version, grants_version,
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
        r#"SELECT id, uid, created_at, username, password_hash, disabled_at, security_version, grants_version,
                  ARRAY(SELECT room FROM grants WHERE user_id = users.id ORDER BY room) AS "rooms!"
           FROM users ORDER BY id"#
    );
    within(limit, "users", query.fetch_all(postgres)).await
}

/// Whose a number is, if it is anybody's.
pub async fn owner(postgres: &PgPool, id: i64, limit: Duration) -> Result<Option<Owner>, PostgresError> {
    let query = sqlx::query_as!(Owner, "SELECT id, uid, created_at FROM users WHERE id = $1", id);
    within(limit, "user_owner", query.fetch_optional(postgres)).await
}

/// When a user was added.
pub async fn created_at(postgres: &PgPool, id: i64, limit: Duration) -> Result<OffsetDateTime, PostgresError> {
    let query = sqlx::query_scalar!("SELECT created_at FROM users WHERE id = $1", id);
    within(limit, "user_created_at", query.fetch_one(postgres)).await
}

/// Adds a user and returns who they are, or nothing if the name belongs to somebody, perhaps in other letters.
pub async fn add(
    postgres: &mut PgConnection,
    name: &str,
    password_hash: &str,
    limit: Duration,
) -> Result<Option<Owner>, PostgresError> {
    let query = sqlx::query_as!(
        Owner,
        "INSERT INTO users (username, password_hash) VALUES ($1, $2) RETURNING id, uid, created_at",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_names_start_with_a_letter_or_digit_and_may_be_email_addresses() {
        for name in
            ["bob", "Bob.Miller-2_x", "42towels", "alice@example.com", "alice+news@example.com", &"x".repeat(64)]
        {
            assert_eq!(check_new_name(name), Ok(()), "{name}");
        }
        for name in
            ["", "al", "--help", "-rf", "_bob", ".bob", "@bob", "+bob", "two words", "al\u{ed}ce", "a\nb", "=1+1"]
        {
            assert_eq!(check_new_name(name), Err(NameError::Malformed), "{name:?}");
        }
        assert_eq!(check_new_name(&"x".repeat(65)), Err(NameError::Malformed));
        assert!(is_username("--help") && is_username("_bob"), "older users keep their names");
    }

    #[test]
    fn reserved_names_are_found_in_every_disguise() {
        assert!(RESERVED.is_sorted());
        for name in ["admin", "ADMIN", "Ad.min", "admin_", "s-y-s-t-e-m", "root@example.com", "support+1@example.com"] {
            assert_eq!(check_not_reserved(name), Err(NameError::Reserved), "{name}");
        }
        for name in ["admin.smith", "administrator2", "rooted", "alice@admin.example", "alice+admin@example.com"] {
            assert_eq!(check_not_reserved(name), Ok(()), "{name}");
        }
    }
}
