//! A user's sessions: what there is, and how to end it.

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use gatefold_shared::revocation::{Ended, Why};
use http::StatusCode;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use uuid::Uuid;

use super::session_response::clear_cookies;
use crate::{
    audit::{Event, Kind},
    error::ApiError,
    extract::{Bearer, Caller, RefreshTokens},
    families::{self, Listed},
    state::App,
};

#[derive(Serialize, ToSchema)]
pub struct Sessions {
    sessions: Vec<Session>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Session {
    id: Uuid,
    /// Whether it is the session of this request.
    current: bool,
    /// In milliseconds since 1970.
    created_at: i64,
    /// In milliseconds since 1970.
    last_used_at: i64,
    /// In milliseconds since 1970.
    expires_at: i64,
    /// The address from which it was last used.
    ip: String,
    user_agent: String,
}

/// `GET /api/sessions`: the caller's living sessions, newest first.
#[utoipa::path(get, path = "/api/sessions", tag = "Sessions", operation_id = "listSessions", summary = "List the sessions of the caller", description = "Sessions that are active, newest first.", security(("accessToken" = [])), responses(
    (status = 200, description = "The sessions", body = Sessions),
    (status = 401, description = "`missing_token`, `invalid_token`, `token_expired`, `session_revoked`"),
    (status = 429, description = "`rate_limited`"),
    (status = 503, description = "`unavailable`"),
))]
pub async fn sessions(State(app): State<App>, Bearer(token): Bearer) -> Result<Json<Sessions>, ApiError> {
    let listed = families::list(&app.redis, token.user_id).await?;
    let session = |listed: Listed| Session {
        id: listed.family,
        current: listed.family == token.family,
        created_at: listed.created_at,
        last_used_at: listed.last_used_at,
        expires_at: listed.expires_at,
        ip: listed.address,
        user_agent: listed.user_agent,
    };
    Ok(Json(Sessions { sessions: listed.into_iter().map(session).collect() }))
}

/// `DELETE /api/sessions/{id}`: ends one of the caller's sessions, perhaps this one.
#[utoipa::path(delete, path = "/api/sessions/{id}", tag = "Sessions", operation_id = "endSession", summary = "End a session", description = "Ends one session of the caller. To end one that is over already is no error.", params(("id" = Uuid, Path, description = "The session")), security(("accessToken" = [])), responses(
    (status = 204, description = "The session has ended"),
    (status = 401, description = "`missing_token`, `invalid_token`, `token_expired`, `session_revoked`"),
    (status = 404, description = "`session_not_found`"),
    (status = 429, description = "`rate_limited`"),
    (status = 503, description = "`unavailable`"),
))]
pub async fn end_session(
    State(app): State<App>,
    caller: Caller,
    Bearer(token): Bearer,
    id: Result<Path<Uuid>, PathRejection>,
) -> Result<StatusCode, ApiError> {
    let Path(family) = id.map_err(|_| ApiError::NoSuchSession)?;
    match app.ender.revoke(token.user_id, family, None, Why::EndedByUser).await? {
        Ended::Unknown => Err(ApiError::NoSuchSession),
        Ended::Before => Ok(StatusCode::NO_CONTENT),
        Ended::Now => {
            let event = Event::now(Kind::SessionEnded).of_user(token.user_id).of_session(family);
            let by = json!({ "why": Why::EndedByUser.as_str(), "by": token.family });
            app.audit.record(caller.did(event).with(by));
            Ok(StatusCode::NO_CONTENT)
        }
    }
}

/// `POST /api/logout-all`: ends all of the caller's sessions, this one too, and clears their cookies.
#[utoipa::path(post, path = "/api/logout-all", tag = "Sessions", operation_id = "logoutAll", summary = "Log out everywhere", description = "Ends all sessions of the caller, this one too, and clears their cookies.", security(("accessToken" = [])), responses(
    (status = 200, description = "All sessions have ended", body = Revoked, headers(("Set-Cookie" = String, description = "The refresh token, or its end"))),
    (status = 401, description = "`missing_token`, `invalid_token`, `token_expired`, `session_revoked`"),
    (status = 429, description = "`rate_limited`"),
    (status = 503, description = "`unavailable`"),
))]
pub async fn logout_all(
    State(app): State<App>,
    caller: Caller,
    Bearer(token): Bearer,
    RefreshTokens(sent): RefreshTokens,
) -> Result<Response, ApiError> {
    let revoked = app.ender.revoke_all(token.user_id, None, Why::LogoutAll).await?;
    let event = Event::now(Kind::LoggedOutEverywhere).of_user(token.user_id).of_session(token.family);
    app.audit.record(caller.did(event).with(json!({ "sessions": revoked })));
    // A cookie of another user's session, which goes on, stays.
    Ok(clear_cookies(&app, Json(Revoked { revoked }).into_response(), &sent.of_user(token.user_id)))
}

#[derive(Serialize, ToSchema)]
pub struct Revoked {
    /// How many sessions have ended.
    revoked: u64,
}
