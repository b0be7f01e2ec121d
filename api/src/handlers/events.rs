//! What happened to the caller's account.

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    audit::{self, Kind, Page, Recorded},
    error::ApiError,
    extract::{Bearer, EventsQuery},
    state::App,
};

#[derive(Serialize, ToSchema)]
pub struct Events {
    events: Vec<Recorded>,
    /// `before` of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next: Option<i64>,
}

/// `GET /api/events`: what happened to the caller's account, newest first: "why was I logged out?"
#[utoipa::path(get, path = "/api/events", tag = "Account", operation_id = "listEvents", summary = "List the events of the account", description = "What happened to the account of the caller, newest first: logins, logouts, changes of the password.", params(
    ("limit" = Option<u8>, Query, description = "The most events in the answer", minimum = 1, maximum = 100, example = 100),
    ("before" = Option<i64>, Query, description = "Only older events than this one: `next` of the previous page", minimum = 1),
    ("kind" = Option<Kind>, Query, description = "Only events of this kind"),
), security(("accessToken" = [])), responses(
    (status = 200, description = "A page of events", body = Events),
    (status = 400, description = "`invalid_request`"),
    (status = 401, description = "`missing_token`, `invalid_token`, `token_expired`, `session_revoked`"),
    (status = 429, description = "`rate_limited`"),
    (status = 503, description = "`unavailable`"),
))]
pub async fn events(
    State(app): State<App>,
    Bearer(token): Bearer,
    EventsQuery(request): EventsQuery,
) -> Result<Json<Events>, ApiError> {
    let page = audit::page(&app.postgres, token.subject(), request, app.redis.call_timeout()).await?;
    let Page { events, next } = page;
    Ok(Json(Events { events, next }))
}
