//! The answer that carries a session: the access token in the body, the refresh token in the cookie.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{error::ApiError, families::Session, state::AppState};

/// A user, as every answer shows them.
#[derive(Serialize, ToSchema)]
pub struct UserBody {
    pub id: i64,
    pub username: String,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionBody {
    /// An RS256 JWT: send it as `Authorization: Bearer`.
    access_token: String,
    /// Seconds. Fewer towards the end of the session.
    expires_in: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<UserBody>,
}

/// The answer to a log-in (with the user) or a refresh (without). The access token ends with the session at the latest:
/// what is not there any more cannot be ended before.
pub fn session_response(app: &AppState, session: &Session, user: Option<UserBody>) -> Result<Response, ApiError> {
    let keys = app.keys.load();
    let lifetime = keys.signer.lifetime().min(session.expires_in);
    if lifetime < Duration::from_secs(1) {
        // A token that is dead on arrival would only send its client for the next one.
        return Err(ApiError::SessionNotFound);
    }
    let (username, rooms) = (Arc::clone(&session.username), session.rooms.clone());
    let access_token = keys.signer.sign(session.user_id, username, session.family, rooms, lifetime)?;
    let body = SessionBody { access_token, expires_in: lifetime.as_secs(), user };
    let mut response = Json(body).into_response();
    set_cookie(&mut response, app.cookies.set(&session.refresh_token, session.expires_in));
    Ok(response)
}

/// Adds a `Set-Cookie` to an answer.
pub fn set_cookie(response: &mut Response, cookie: Option<HeaderValue>) {
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}
