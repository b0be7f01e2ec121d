//! Registering.

use axum::{extract::State, response::Response};
use gatefold_shared::grants::Grants;
use http::StatusCode;
use secrecy::SecretString;
use serde::Deserialize;
use tracing::info;
use utoipa::ToSchema;

use super::{
    login::record_ended,
    session_response::{LoggedIn, UserBody, session_response},
};
use crate::{
    audit::{Event, Kind},
    error::ApiError,
    extract::{Caller, Json, RefreshTokens},
    families::Origin,
    password_rules, postgres,
    state::App,
    users,
};

#[derive(Deserialize, ToSchema)]
pub struct RegisterRequest {
    /// Whitespace around it is ignored. An e-mail address is a valid username.
    #[schema(
        min_length = 3,
        max_length = 64,
        pattern = "^\\s*[A-Za-z0-9][A-Za-z0-9_.@+-]{2,63}\\s*$",
        example = "alice"
    )]
    username: String,
    /// Not a common password, and not the username.
    #[schema(value_type = String, format = Password, min_length = 8, max_length = 256, example = "correct horse battery staple")]
    password: SecretString,
}

/// `POST /api/register`: adds a user and opens their first session.
///
/// There is no user without the session that the answer brings: after a 503 the name is still free, and the same request
/// can be sent again. Only when Postgres goes just as it is told to keep the user does nobody know whether it did.
#[utoipa::path(post, path = "/api/register", tag = "Account", operation_id = "register", summary = "Register", description = "Adds a user and opens their first session. After a 503 the request can be sent again: the name is still free, unless the failure came in the last moment.", request_body = RegisterRequest, responses(
    (status = 201, description = "The user was added, and the session is open", body = LoggedIn, headers(("Set-Cookie" = String, description = "The refresh token; and the device cookie, in a line of its own"))),
    (status = 400, description = "`invalid_request`, `weak_password`"),
    (status = 403, description = "`registration_closed`, `forbidden_origin`"),
    (status = 409, description = "`username_taken`, `username_reserved`"),
    (status = 429, description = "`rate_limited`"),
    (status = 503, description = "`unavailable`"),
))]
pub async fn register(
    State(app): State<App>,
    caller: Caller,
    RefreshTokens(sent): RefreshTokens,
    Json(request): Json<RegisterRequest>,
) -> Result<Response, ApiError> {
    if !app.registration_is_open {
        return Err(ApiError::RegistrationClosed);
    }
    let name = users::trimmed(&request.username);
    users::check_new_name(name)?;
    users::check_not_reserved(name)?;
    password_rules::check_form(&request.password, name)?;
    let hash = app.passwords.hash_chosen(request.password).await??;
    let limit = app.redis.call_timeout();
    let mut transaction = postgres::begin(&app.postgres, limit).await?;
    let added = users::add(&mut transaction, name, &hash, limit).await?;
    let owner = added.ok_or(ApiError::UsernameTaken)?;
    let id = owner.id;
    let from = Origin { address: caller.address, user_agent: &caller.user_agent };
    let issued = app.families.issue(&owner, name.into(), &Grants::default(), from).await?;
    let session = record_ended(&app, &caller, issued);
    postgres::commit(transaction, limit).await?;
    app.audit.record(caller.did(Event::now(Kind::Registered).of_user(id).of_session(session.family)));
    info!(user.id = id, client.address = %caller.address, "registered");
    let mut response = session_response(&app, &session, Some(UserBody { id, username: name.to_owned() }), &sent)?;
    app.device_cookies.add(&mut response, &app.keys.load().refresh, owner.uid, users::FIRST_SECURITY_VERSION);
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}
