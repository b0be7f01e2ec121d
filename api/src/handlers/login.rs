//! Logging in.

use std::convert::Infallible;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use gatefold_shared::revocation::Why;
use metrics::counter;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;
use tracing::{info, warn};
use utoipa::ToSchema;

use super::{
    length::{check_length, check_password},
    session_response::{LoggedIn, UserBody, session_response},
};
use crate::{
    audit::{Event, Kind},
    cookies::Presented,
    device_cookie::Devices,
    error::ApiError,
    extract::{Caller, Json, RefreshTokens},
    families::{Issued, Origin, Session},
    limits::{Guess, NotBegun},
    passwords::{Unverifiable, Verdict},
    state::{App, AppState},
    users::{self, User},
};

#[derive(Deserialize, ToSchema)]
pub struct LoginRequest {
    /// In any case; whitespace around it is ignored.
    #[schema(min_length = 1, max_length = 64, example = "testuser")]
    username: String,
    #[schema(value_type = String, format = Password, min_length = 1, max_length = 256, example = "password123")]
    password: SecretString,
}

/// `POST /api/login`: opens a session. An unknown user and a wrong password get the same answer after the same work.
#[utoipa::path(post, path = "/api/login", tag = "Sessions", operation_id = "login", summary = "Log in", description = "Opens a session. The refresh token comes in a cookie; the access token, which opens everything else, in the body. An unknown user and a wrong password get the same answer.", request_body = LoginRequest, params(("refreshToken-device" = Option<String>, Cookie, description = "From an earlier login on this device: its failed logins are then counted apart from those of others")), responses(
    (status = 200, description = "The session is open", body = LoggedIn, headers(("Set-Cookie" = String, description = "The refresh token; and the device cookie, in a line of its own"))),
    (status = 400, description = "`invalid_request`"),
    (status = 401, description = "`invalid_credentials`"),
    (status = 403, description = "`account_disabled`, `password_reset_required`, `forbidden_origin`"),
    (status = 429, description = "`rate_limited`"),
    (status = 503, description = "`unavailable`"),
))]
pub async fn login(
    State(app): State<App>,
    caller: Caller,
    RefreshTokens(sent): RefreshTokens,
    Ok(devices): Result<Devices, Infallible>,
    Json(request): Json<LoginRequest>,
) -> Result<Response, ApiError> {
    let name = users::trimmed(&request.username);
    check_length("username", name.chars().count(), users::LONGEST_NAME)?;
    check_password("password", &request.password)?;
    let user = if users::is_username(name) {
        users::by_name(&app.postgres, name, app.redis.call_timeout()).await?
    } else {
        None
    };
    let device = user.as_ref().and_then(|user| devices.of(user));
    let attempt = app.limits.begin_login(name, device).await.inspect_err(|error| {
        if matches!(error, NotBegun::Refused(_)) {
            app.limited_logins.note(user.as_ref().map(|user| user.id), caller.address);
        }
    })?;
    let result = Box::pin(open_session(&app, &caller, user, request.password, &sent)).await;
    let standing = attempt.end(guess(&result)).await;
    let mut response = result.into_response();
    response.extensions_mut().insert(standing);
    Ok(response)
}

/// What the answer says about the password.
fn guess(result: &Result<Response, ApiError>) -> Guess {
    match result {
        Ok(_) | Err(ApiError::AccountDisabled) => Guess::Right,
        Err(ApiError::InvalidCredentials) => Guess::Wrong,
        Err(_) => Guess::NotJudged,
    }
}

async fn open_session(
    app: &AppState,
    caller: &Caller,
    user: Option<User>,
    password: SecretString,
    sent: &Presented,
) -> Result<Response, ApiError> {
    let limit = app.redis.call_timeout();
    let stored = user.as_ref().map(|user| user.password_hash.clone());
    let verdict = app.passwords.verify(password, stored).await?;
    let event = |kind| caller.did(Event::now(kind));
    if let (Some(user), Verdict::Unverifiable(why)) = (&user, &verdict) {
        return Err(reset_required(app, event(Kind::LoginFailed), user, *why));
    }
    let known = user.as_ref().map(|user| user.id);
    let Some(user) = user.filter(|_| verdict.is_right()) else {
        counter!("gatefold_logins_total", "outcome" => "refused").increment(1);
        app.audit.record(match known {
            Some(id) => event(Kind::LoginFailed).of_user(id),
            None => event(Kind::LoginFailed),
        });
        return Err(ApiError::InvalidCredentials);
    };
    if user.disabled_at.is_some() {
        let why = json!({ "why": "disabled" });
        app.audit.record(event(Kind::LoginFailed).of_user(user.id).with(why));
        return Err(ApiError::AccountDisabled);
    }
    if let Verdict::RightAndOutdated(hash) = verdict {
        // It can be done at the next log-in as well.
        match users::rehash(&app.postgres, &user, &hash, limit).await {
            Err(error) if error.is_outage() => warn!(user.id = user.id, %error, "a password hash stays outdated"),
            result => result?,
        }
    }
    let from = Origin { address: caller.address, user_agent: &caller.user_agent };
    let issued = app.families.issue(&(&user).into(), user.username.as_str().into(), &user.grants(), from).await?;
    let session = record_ended(app, caller, issued);
    // Whatever ended all sessions while the password was being hashed did not know of this one.
    if !users::is_current(&app.postgres, &user, limit).await? {
        app.ender.revoke(user.id, session.family, None, Why::PasswordChanged).await?;
        let why = json!({ "why": Why::PasswordChanged.as_str() });
        app.audit.record(event(Kind::SessionEnded).of_user(user.id).of_session(session.family).with(why));
        return Err(ApiError::InvalidCredentials);
    }
    counter!("gatefold_logins_total", "outcome" => "accepted").increment(1);
    app.audit.record(event(Kind::LoggedIn).of_user(user.id).of_session(session.family));
    info!(user.id = user.id, family.id = %session.family, client.address = %caller.address, "logged in");
    let (id, uid, version) = (user.id, user.uid, user.security_version);
    let mut response = session_response(app, &session, Some(UserBody { id, username: user.username }), sent)?;
    app.device_cookies.add(&mut response, &app.keys.load().refresh, uid, version);
    Ok(response)
}

/// Records the sessions that have ended because one was opened, and returns that one.
pub(super) fn record_ended(app: &AppState, caller: &Caller, issued: Issued) -> Session {
    let Issued { session, evicted, replaced } = issued;
    let evicted = evicted.into_iter().map(|family| (family, Why::Evicted));
    let replaced = replaced.into_iter().map(|family| (family, Why::AccountReplaced));
    for (family, why) in evicted.chain(replaced) {
        let event = Event::now(Kind::SessionEnded).of_user(session.user_id).of_session(family);
        app.audit.record(caller.did(event).with(json!({ "why": why.as_str(), "by": session.family })));
    }
    session
}

/// Records that a password could not be verified, for the operator to set a new one. `event` is a failed login.
pub(super) fn reset_required(app: &AppState, event: Event, user: &User, why: Unverifiable) -> ApiError {
    let why = match why {
        Unverifiable::Unreadable => "unreadable_hash",
        Unverifiable::BeyondBcrypt => "longer_than_bcrypt_saw",
    };
    counter!("gatefold_logins_total", "outcome" => "reset_required").increment(1);
    warn!(user.id = user.id, why, "a password could not be verified: set a new one with `gatefold-api user passwd`");
    app.audit.record(event.of_user(user.id).with(json!({ "why": why })));
    ApiError::PasswordResetRequired
}
