//! Refreshing a session.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use tracing::{info, warn};

use super::session_response::{SessionBody, session_response, set_cookie};
use crate::{
    error::ApiError,
    extract::{Caller, IdempotencyKey, RefreshCookie},
    families::{Origin, RefreshToken, Rotation},
    state::{App, AppState},
};

/// `POST /api/refresh`: trades a refresh token for its successor; a replayed one ends its family. Every 401 clears the
/// cookie; an outage never does, nor a request that comes too late to matter, whose client has a newer one.
#[utoipa::path(post, path = "/api/refresh", tag = "sessions", params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters. New for each refresh. Within 2 minutes the same key with the same cookie gives the same next cookie again, and later, as long as that has not been used, another one: a client that keeps it until an answer came is never taken for a thief", max_length = 255)), security(("refreshToken" = [])), responses(
    (status = 200, body = SessionBody, headers(("Set-Cookie" = String, description = "The refresh token, or its end"))),
    (status = 400, description = "`invalid_request`"),
    (status = 401, description = "`missing_refresh_token`, `invalid_refresh_token`, `session_not_found`, `session_revoked`, `refresh_token_reused`"),
    (status = 403, description = "`forbidden_origin`"),
    (status = 409, description = "`refresh_superseded`: this very request was answered before, and the client has refreshed again since; or the key belongs to an earlier refresh. Nothing was changed, the cookie neither: refresh once more, with a new key"),
    (status = 429, description = "`rate_limited`"),
    (status = 503, description = "`unavailable`"),
))]
pub async fn refresh(
    State(app): State<App>,
    caller: Caller,
    key: Result<Option<IdempotencyKey>, ApiError>,
    cookie: Result<RefreshCookie, ApiError>,
) -> Response {
    let result = async {
        let (RefreshCookie(old), key) = (cookie?, key?);
        rotate(&app, &old, key.as_ref(), &caller).await
    };
    result.await.unwrap_or_else(|error: ApiError| {
        let mut response = error.into_response();
        if response.status() == StatusCode::UNAUTHORIZED {
            set_cookie(&mut response, app.cookies.clear());
        }
        response
    })
}

async fn rotate(
    app: &AppState,
    old: &RefreshToken,
    key: Option<&IdempotencyKey>,
    caller: &Caller,
) -> Result<Response, ApiError> {
    let (user_id, family) = (old.user_id, old.family);
    let from = Origin { address: caller.address, user_agent: &caller.user_agent };
    match app.families.rotate(old, key.map(|key| key.0.as_str()), from).await? {
        Rotation::Rotated(session) | Rotation::Retried(session) => session_response(app, &session, None),
        Rotation::RolledForward(session) => {
            warn!(user.id = user_id, family.id = %family, "redis had lost a rotation; the session was rolled forward");
            session_response(app, &session, None)
        }
        Rotation::TradedAnew(session) => {
            info!(user.id = user_id, family.id = %family, "a refresh came again late; its first successor is void");
            session_response(app, &session, None)
        }
        Rotation::KeyReused => {
            info!(user.id = user_id, family.id = %family, "a refresh came with the key of an earlier one");
            Err(ApiError::RefreshKeyReused)
        }
        Rotation::Superseded => {
            info!(user.id = user_id, family.id = %family, "a refresh came again after its successor had been used");
            Err(ApiError::RefreshSuperseded)
        }
        Rotation::Replayed { .. } => Err(ApiError::RefreshTokenReused),
        Rotation::Revoked => Err(ApiError::SessionRevoked),
        Rotation::Unknown => {
            info!(user.id = user_id, family.id = %family, "a refresh token of no living session was refused");
            Err(ApiError::SessionNotFound)
        }
    }
}
