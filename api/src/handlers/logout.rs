//! Logging out.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use gatefold_shared::revocation::{Ended, Why};
use serde::Serialize;
use tracing::info;
use utoipa::ToSchema;
use uuid::Uuid;

use super::session_response::clear_cookies;
use crate::{
    audit::{Event, Kind},
    error::ApiError,
    extract::{Caller, RefreshTokens},
    state::App,
};

#[derive(Serialize, ToSchema)]
pub struct LoggedOut {
    message: &'static str,
    /// The sessions that have ended.
    sessions: Vec<Uuid>,
}

/// `POST /api/logout`: ends the sessions of all refresh cookies of the request and clears the cookies. Whoever is logged out
/// already is told the same. What cannot be done is not claimed: 401 if no cookie is one of ours, 503 during an outage, and
/// then the cookies stay.
#[utoipa::path(post, path = "/api/logout", tag = "Sessions", operation_id = "logout", summary = "Log out", description = "Ends the sessions of all refresh cookies of the request, and clears the cookies. A browser that is logged out already gets the same answer. After 401 and 503 nothing has ended, and the cookies stay.", security(("refreshToken" = [])), responses(
    (status = 200, description = "The sessions of all cookies have ended", body = LoggedOut, headers(("Set-Cookie" = String, description = "The end of the refresh token"))),
    (status = 401, description = "`invalid_refresh_token`: nothing was ended"),
    (status = 403, description = "`forbidden_origin`"),
    (status = 429, description = "`rate_limited`"),
    (status = 503, description = "`unavailable`"),
))]
pub async fn logout(
    State(app): State<App>,
    caller: Caller,
    RefreshTokens(sent): RefreshTokens,
) -> Result<Response, ApiError> {
    let tokens = sent.tokens();
    if tokens.is_empty() {
        return if sent.is_empty() {
            Ok(Json(LoggedOut { message: "There was no session to log out of", sessions: Vec::new() }).into_response())
        } else {
            Err(ApiError::InvalidRefreshToken)
        };
    }
    let mut sessions = Vec::new();
    for token in tokens {
        if app.families.end(token, Why::Logout).await? == Ended::Now {
            let event = Event::now(Kind::LoggedOut).of_user(token.user_id).of_session(token.family);
            app.audit.record(caller.did(event));
        }
        info!(user.id = token.user_id, family.id = %token.family, "logged out");
        if !sessions.contains(&token.family) {
            sessions.push(token.family);
        }
    }
    let response = Json(LoggedOut { message: "Logged out", sessions }).into_response();
    Ok(clear_cookies(&app, response, &sent))
}
