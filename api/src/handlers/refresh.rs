//! Refreshing a session.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use tracing::{info, warn};

use super::session_response::{session_response, set_cookie};
use crate::{
    error::ApiError,
    extract::{IdempotencyKey, RefreshCookie},
    families::{RefreshToken, Rotation},
    state::{App, AppState},
};

/// `POST /api/refresh`: trades a refresh token for its successor; a replayed one ends its family. Every refusal clears the
/// cookie, and an outage never does.
pub async fn refresh(
    State(app): State<App>,
    key: Result<Option<IdempotencyKey>, ApiError>,
    cookie: Result<RefreshCookie, ApiError>,
) -> Response {
    let result = async {
        let (RefreshCookie(old), key) = (cookie?, key?);
        rotate(&app, &old, key.as_ref()).await
    };
    result.await.unwrap_or_else(|error: ApiError| {
        let mut response = error.into_response();
        if response.status() == StatusCode::UNAUTHORIZED {
            set_cookie(&mut response, app.cookies.clear());
        }
        response
    })
}

async fn rotate(app: &AppState, old: &RefreshToken, key: Option<&IdempotencyKey>) -> Result<Response, ApiError> {
    let (user_id, family) = (old.user_id, old.family);
    match app.families.rotate(old, key.map(|key| key.0.as_str())).await? {
        Rotation::Rotated(session) | Rotation::Retried(session) => session_response(app, &session, None),
        Rotation::RolledForward(session) => {
            warn!(user.id = user_id, family.id = %family, "redis had lost a rotation; the session was rolled forward");
            session_response(app, &session, None)
        }
        Rotation::Replayed => {
            warn!(user.id = user_id, family.id = %family, "a refresh token was replayed; its session was ended");
            Err(ApiError::RefreshTokenReused)
        }
        Rotation::Revoked => Err(ApiError::SessionRevoked),
        Rotation::Unknown => {
            info!(user.id = user_id, family.id = %family, "a refresh token of no living session was refused");
            Err(ApiError::SessionNotFound)
        }
    }
}
