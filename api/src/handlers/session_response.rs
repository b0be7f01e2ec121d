//! The answer that carries a session: the access token in the body, the refresh token in the cookie.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use gatefold_shared::jwt::Subject;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{cookies::Presented, error::ApiError, families::Session, state::AppState};

/// A user.
#[derive(Serialize, ToSchema)]
#[schema(as = User)]
pub struct UserBody {
    pub id: i64,
    /// As it was written at registration.
    pub username: String,
}

/// A session that was opened.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoggedIn {
    /// A signed JWT: send it as `Authorization: Bearer …`.
    access_token: String,
    /// The life of the access token in seconds; it never outlives the session.
    expires_in: u64,
    user: UserBody,
}

/// A session that goes on.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Refreshed {
    /// A signed JWT: send it as `Authorization: Bearer …`.
    access_token: String,
    /// The life of the access token in seconds; it never outlives the session.
    expires_in: u64,
}

/// The answer to a log-in (with the user) or a refresh (without). The access token ends with the session at the latest:
/// what is not there any more cannot be ended before. The new refresh token takes the place of all that were `sent`.
pub fn session_response(
    app: &AppState,
    session: &Session,
    user: Option<UserBody>,
    sent: &Presented,
) -> Result<Response, ApiError> {
    let keys = app.keys.load();
    let lifetime = keys.signer.lifetime().min(session.expires_in);
    if lifetime < Duration::from_secs(1) {
        // A token that is dead on arrival would only send its client for the next one.
        return Err(ApiError::SessionNotFound);
    }
    let (username, rooms) = (Arc::clone(&session.username), session.rooms.clone());
    let access_token = keys.signer.sign(
        Subject { id: session.user_id, uid: session.uid },
        username,
        session.family,
        rooms,
        lifetime,
    )?;
    let expires_in = lifetime.as_secs();
    let response = match user {
        Some(user) => Json(LoggedIn { access_token, expires_in, user }).into_response(),
        None => Json(Refreshed { access_token, expires_in }).into_response(),
    };
    let (mut parts, body) = response.into_parts();
    app.cookies.replace(&mut parts, sent, &session.refresh_token, session.expires_in);
    Ok(Response::from_parts(parts, body))
}

/// Has the browser forget the refresh tokens that it sent.
pub fn clear_cookies(app: &AppState, response: Response, sent: &Presented) -> Response {
    let (mut parts, body) = response.into_parts();
    app.cookies.clear(&mut parts, sent);
    Response::from_parts(parts, body)
}
