//! Grants in Postgres: which private rooms a user may enter. They are in effect once [`gatefold_shared::grants::write`] has
//! told Redis.

use std::time::Duration;

use gatefold_shared::grants::{Grants, MOST};
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;

use crate::postgres::{PostgresError, within};

/// What became of a change, and the grants of the user since.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// It was made.
    Made(Grants),
    /// It had been made before.
    NotNeeded(Grants),
    /// It was not made: the user has as many grants as a token can carry.
    TooMany,
}

/// A grant as administrators see it.
pub struct Granted {
    pub room: String,
    pub created_at: OffsetDateTime,
}

/// Lets a user into a room.
pub async fn add(
    postgres: &mut PgConnection,
    user_id: i64,
    room: &str,
    limit: Duration,
) -> Result<Change, PostgresError> {
    let was = lock(postgres, user_id, limit).await?;
    if was.rooms.iter().any(|granted| &**granted == room) {
        return Ok(Change::NotNeeded(was));
    }
    if was.rooms.len() >= MOST {
        return Ok(Change::TooMany);
    }
    let query = sqlx::query!("INSERT INTO grants (user_id, room) VALUES ($1, $2)", user_id, room);
    within(limit, "grant_add", query.execute(&mut *postgres)).await?;
    let rooms = was.rooms.iter().cloned().chain([room.into()]).collect();
    count(postgres, user_id, Grants { rooms, ..was }, limit).await
}

/// Lets a user into a room no more.
pub async fn remove(
    postgres: &mut PgConnection,
    user_id: i64,
    room: &str,
    limit: Duration,
) -> Result<Change, PostgresError> {
    let was = lock(postgres, user_id, limit).await?;
    let query = sqlx::query!("DELETE FROM grants WHERE user_id = $1 AND room = $2", user_id, room);
    if within(limit, "grant_remove", query.execute(&mut *postgres)).await?.rows_affected() == 0 {
        return Ok(Change::NotNeeded(was));
    }
    let rooms = was.rooms.iter().filter(|granted| &***granted != room).cloned().collect();
    count(postgres, user_id, Grants { rooms, ..was }, limit).await
}

/// The grants of a user, by room.
pub async fn of_user(postgres: &PgPool, user_id: i64, limit: Duration) -> Result<Vec<Granted>, PostgresError> {
    let query =
        sqlx::query_as!(Granted, "SELECT room, created_at FROM grants WHERE user_id = $1 ORDER BY room", user_id);
    within(limit, "grants_of_user", query.fetch_all(postgres)).await
}

/// Reads a user's grants, which nobody else changes until the transaction ends. Not in one statement: one that has waited
/// for a lock still sees other tables as they were before it waited.
async fn lock(postgres: &mut PgConnection, user_id: i64, limit: Duration) -> Result<Grants, PostgresError> {
    let query = sqlx::query!("SELECT uid, grants_version FROM users WHERE id = $1 FOR UPDATE", user_id);
    let user = within(limit, "grants_lock", query.fetch_one(&mut *postgres)).await?;
    let query = sqlx::query_scalar!("SELECT room FROM grants WHERE user_id = $1 ORDER BY room", user_id);
    let rooms = within(limit, "grants_read", query.fetch_all(postgres)).await?;
    Ok(Grants {
        uid: Some(user.uid),
        version: user.grants_version,
        rooms: rooms.into_iter().map(String::into_boxed_str).collect(),
    })
}

/// Counts a change of the user's grants.
async fn count(
    postgres: &mut PgConnection,
    user_id: i64,
    changed: Grants,
    limit: Duration,
) -> Result<Change, PostgresError> {
    let query = sqlx::query_scalar!(
        "UPDATE users SET grants_version = grants_version + 1 WHERE id = $1 RETURNING grants_version",
        user_id
    );
    let version = within(limit, "grants_count", query.fetch_one(postgres)).await?;
    Ok(Change::Made(Grants { version, ..changed }))
}
