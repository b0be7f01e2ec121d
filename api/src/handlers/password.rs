//! Changing the password.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use gatefold_shared::revocation::Why;
use http::StatusCode;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;
use tracing::info;
use utoipa::ToSchema;

use super::{length::check_password, login::reset_required};
use crate::{
    audit::{Event, Kind},
    error::ApiError,
    extract::{Bearer, Caller, Json},
    limits::{Guess, NotBegun},
    password_rules,
    passwords::Verdict,
    postgres,
    state::App,
    users,
};

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasswordRequest {
    #[schema(value_type = String, format = Password, min_length = 1, max_length = 256)]
    current_password: SecretString,
    #[schema(value_type = String, format = Password, min_length = 8, max_length = 256)]
    new_password: SecretString,
}

/// `POST /api/password`: changes the caller's password and ends all of their other sessions.
///
/// The sessions end while Postgres holds the change back, so that an outage of Redis leaves the old password, and the same
/// request can be sent again. Only when Postgres goes just as it is told to keep the change does nobody know whether it did.
#[utoipa::path(post, path = "/api/password", tag = "Account", operation_id = "changePassword", summary = "Change the password", description = "Ends all other sessions of the user, and forgets all devices but this one. After a 503 the request can be sent again.", request_body = PasswordRequest, security(("accessToken" = [])), responses(
    (status = 204, description = "The password was changed, and all other sessions have ended", headers(("Set-Cookie" = String, description = "The device cookie"))),
    (status = 400, description = "`invalid_request`, `weak_password`"),
    (status = 401, description = "`invalid_credentials`, `missing_token`, `invalid_token`, `token_expired`, `session_revoked`"),
    (status = 403, description = "`password_reset_required`, `forbidden_origin`"),
    (status = 429, description = "`rate_limited`"),
    (status = 503, description = "`unavailable`"),
))]
pub async fn password(
    State(app): State<App>,
    caller: Caller,
    Bearer(token): Bearer,
    Json(request): Json<PasswordRequest>,
) -> Result<Response, ApiError> {
    check_password("currentPassword", &request.current_password)?;
    password_rules::check_form(&request.new_password, &token.username)?;
    let limit = app.redis.call_timeout();
    let user = users::by_id(&app.postgres, token.user_id, limit).await?.ok_or(ApiError::AccessRevoked)?;
    if !token.subject().may_be(user.uid) {
        return Err(ApiError::AccessRevoked);
    }
    // Whoever has stolen an access token must not be able to guess here what they cannot at the log-in.
    let attempt = app.limits.begin_password_check(token.family).await.inspect_err(|error| {
        if matches!(error, NotBegun::Refused(_)) {
            app.limited_logins.note(Some(user.id), caller.address);
        }
    })?;
    let verdict = app.passwords.verify(request.current_password, Some(user.password_hash.clone())).await;
    attempt.end(verdict.as_ref().map_or(Guess::NotJudged, Guess::of)).await;
    let event = |kind| caller.did(Event::now(kind).of_user(user.id).of_session(token.family));
    match verdict? {
        Verdict::Right | Verdict::RightAndOutdated(_) => {}
        Verdict::Wrong => {
            app.audit.record(event(Kind::LoginFailed).with(json!({ "why": "current_password" })));
            return Err(ApiError::InvalidCredentials);
        }
        Verdict::Unverifiable(why) => return Err(reset_required(&app, event(Kind::LoginFailed), &user, why)),
    }
    let hash = app.passwords.hash_chosen(request.new_password).await??;
    let mut transaction = postgres::begin(&app.postgres, limit).await?;
    if !users::change_password(&mut transaction, &user, &hash, limit).await? {
        // Somebody changed it while we verified the old one.
        return Err(ApiError::InvalidCredentials);
    }
    let revoked = app.ender.revoke_all(user.id, Some(token.family), Why::PasswordChanged).await?;
    postgres::commit(transaction, limit).await?;
    app.audit.record(event(Kind::PasswordChanged).with(json!({ "sessionsEnded": revoked })));
    info!(user.id = user.id, family.id = %token.family, "changed the password");
    let mut response = StatusCode::NO_CONTENT.into_response();
    // The change made the cookies of all devices worthless, this one's too.
    app.device_cookies.add(&mut response, &app.keys.load().refresh, user.uid, user.security_version + 1);
    Ok(response)
}
