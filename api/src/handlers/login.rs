//! Logging in.

use axum::{Extension, extract::State, response::Response};
use gatefold_shared::client_ip::Client;
use metrics::counter;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tracing::info;

use super::session_response::{UserBody, session_response};
use crate::{
    error::ApiError,
    extract::{Json, UserAgent},
    families::Origin,
    state::App,
    users,
};

/// The longest username that is looked at, in characters.
const MAX_USERNAME: usize = 64;
/// The longest password that is looked at, in code points: more would only make hashing dear.
const MAX_PASSWORD: usize = 256;

#[derive(Deserialize)]
pub struct LoginRequest {
    username: String,
    password: SecretString,
}

/// `POST /api/login`: opens a session. An unknown user and a wrong password get the same answer after the same work.
pub async fn login(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    UserAgent(user_agent): UserAgent,
    Json(request): Json<LoginRequest>,
) -> Result<Response, ApiError> {
    check_length("username", &request.username, MAX_USERNAME)?;
    check_length("password", request.password.expose_secret(), MAX_PASSWORD)?;
    let user = if users::is_username(&request.username) {
        users::by_name(&app.postgres, &request.username, app.redis.call_timeout()).await?
    } else {
        None
    };
    let stored = user.as_ref().map(|user| user.password_hash.clone());
    let is_right = app.passwords.verify(request.password, stored).await?;
    let Some(user) = user.filter(|_| is_right) else {
        counter!("logins_total", "outcome" => "refused").increment(1);
        return Err(ApiError::InvalidCredentials);
    };
    let from = Origin { address: client.address, user_agent: &user_agent };
    let session = app.families.issue(user.id, user.username.as_str().into(), from).await?;
    counter!("logins_total", "outcome" => "accepted").increment(1);
    info!(user.id = user.id, family.id = %session.family, client.address = %client.address, "logged in");
    session_response(&app, &session, Some(UserBody { id: user.id, username: user.username }))
}

fn check_length(field: &str, value: &str, most: usize) -> Result<(), ApiError> {
    if (1..=most).contains(&value.chars().count()) {
        Ok(())
    } else {
        Err(ApiError::InvalidRequest(format!("`{field}` must have 1 to {most} characters")))
    }
}
