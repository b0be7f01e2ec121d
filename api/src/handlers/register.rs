//! Registering.

use axum::{extract::State, response::Response};
use http::StatusCode;
use secrecy::SecretString;
use serde::Deserialize;
use tracing::info;

use super::session_response::{UserBody, session_response};
use crate::{
    audit::{Event, Kind},
    error::ApiError,
    extract::{Caller, Json},
    families::Origin,
    password_rules,
    state::App,
    users,
};

#[derive(Deserialize)]
pub struct RegisterRequest {
    username: String,
    password: SecretString,
}

/// `POST /api/register`: adds a user and opens their first session.
pub async fn register(
    State(app): State<App>,
    caller: Caller,
    Json(request): Json<RegisterRequest>,
) -> Result<Response, ApiError> {
    if !app.registration_is_open {
        return Err(ApiError::RegistrationClosed);
    }
    if !users::is_username(&request.username) {
        let rule = "`username` must have 3 to 64 letters, digits, `_`, `.` or `-`";
        return Err(ApiError::InvalidRequest(rule.to_owned()));
    }
    password_rules::check(&request.password, &request.username)?;
    let hash = app.passwords.hash(request.password).await?;
    let id = users::add(&app.postgres, &request.username, &hash, app.redis.call_timeout()).await?;
    app.audit.record(caller.did(Event::now(Kind::Registered).of_user(id)));
    info!(user.id = id, client.address = %caller.address, "registered");
    let from = Origin { address: caller.address, user_agent: &caller.user_agent };
    let session = app.families.issue(id, request.username.as_str().into(), from).await?;
    let mut response = session_response(&app, &session, Some(UserBody { id, username: request.username }))?;
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}
