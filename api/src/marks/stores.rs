//! The marks in Postgres.

use std::time::Duration;

use sqlx::PgPool;

use crate::postgres::{PostgresError, within};

/// What Postgres says of itself and of Redis.
pub(super) struct Counts {
    pub(super) postgres: i64,
    /// One for each partition.
    pub(super) redis: Vec<i64>,
}

/// Counts on, notes what was seen of Redis, and says what is known.
pub(super) async fn count(postgres: &PgPool, seen: &[i64], limit: Duration) -> Result<Counts, PostgresError> {
    let query = sqlx::query_as!(
        Counts,
        r#"UPDATE store_marks SET
               postgres = postgres + CASE WHEN at < now() - interval '5 seconds' THEN 1 ELSE 0 END,
               at = CASE WHEN at < now() - interval '5 seconds' OR at > now() THEN now() ELSE at END,
               redis = (SELECT array_agg(greatest(was, seen) ORDER BY place)
                        FROM unnest(redis, $1::bigint[]) WITH ORDINALITY AS marks (was, seen, place))
           RETURNING postgres, redis"#,
        seen
    );
    within(limit, "store_marks", query.fetch_one(postgres)).await
}

/// Has users who are added from now on get larger numbers than this.
pub(super) async fn skip_user_ids(postgres: &PgPool, up_to: i64, limit: Duration) -> Result<(), PostgresError> {
    let query = sqlx::query!("SELECT skip_user_ids($1)", up_to);
    within(limit, "skip_user_ids", query.execute(postgres)).await.map(drop)
}
