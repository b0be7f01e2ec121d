//! The events of one user, page by page, newest first.

use gatefold_shared::jwt::Subject;
use sqlx::PgPool;
use std::time::Duration;

use super::{Kind, Recorded};
use crate::postgres::{PostgresError, within};

/// Which events of a user are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// How many events at most.
    pub limit: u8,
    /// Only events with a smaller id than this; `i64::MAX` for the newest.
    pub before: i64,
    /// Only events of this kind.
    pub kind: Option<Kind>,
}

/// A part of the events of a user.
pub struct Page {
    pub events: Vec<Recorded>,
    /// `before` of the next page, if there is one.
    pub next: Option<i64>,
}

/// Reads a page of the events of a user, and of nobody else who had the number.
pub async fn page(
    postgres: &PgPool,
    user: Subject,
    request: PageRequest,
    timeout: Duration,
) -> Result<Page, PostgresError> {
    let PageRequest { limit, before, kind } = request;
    // One more than asked for tells whether there is a next page.
    let rows = i64::from(limit) + 1;
    // Two statements, so that each has an index in the order of its rows, whatever plan Postgres keeps for it.
    let mut events = if let Some(kind) = kind {
        let query = sqlx::query_as!(
            Recorded,
            r#"SELECT id, kind, at, user_id, family AS session_id, host(address) AS ip, user_agent, details
               FROM events WHERE user_id = $1 AND kind = $2 AND id < $3 AND ($5::uuid IS NULL OR uid IS NULL OR uid = $5)
               ORDER BY id DESC LIMIT $4"#,
            user.id,
            kind.as_str(),
            before,
            rows,
            user.uid
        );
        within(timeout, "events_page_of_kind", query.fetch_all(postgres)).await?
    } else {
        let query = sqlx::query_as!(
            Recorded,
            r#"SELECT id, kind, at, user_id, family AS session_id, host(address) AS ip, user_agent, details
               FROM events WHERE user_id = $1 AND id < $2 AND ($4::uuid IS NULL OR uid IS NULL OR uid = $4)
               ORDER BY id DESC LIMIT $3"#,
            user.id,
            before,
            rows,
            user.uid
        );
        within(timeout, "events_page", query.fetch_all(postgres)).await?
    };
    let has_more = events.len() > usize::from(limit);
    events.truncate(usize::from(limit));
    let next = events.last().filter(|_| has_more).map(|event| event.id);
    Ok(Page { events, next })
}
