//! Refreshing a session.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use tracing::{info, warn};

use super::session_response::{Refreshed, clear_cookies, session_response};
use crate::{
    cookies::Presented,
    error::ApiError,
    extract::{Caller, IdempotencyKey, RefreshTokens},
    families::{Choice, Origin, RefreshToken, Rotation},
    state::{App, AppState},
};

/// `POST /api/refresh`: trades a refresh token for its successor; a replayed one ends its family. A 401 about a session
/// that is over clears its cookie. One about no cookie of ours clears nothing, for a foreign cookie is not ours to clear; nor
/// does an outage, or a request that comes too late to matter, whose client has a newer cookie.
#[utoipa::path(post, path = "/api/refresh", tag = "Sessions", operation_id = "refresh", summary = "Refresh the session", description = "Exchanges the refresh token for the next one, and gives a new access token. A refresh token that was used before ends the session. After a 401 about a session that is over, the cookie is cleared.", params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters. New for each refresh. A request that is repeated with the same key and the same cookie is recognised as a retry, and not as a replay: within 2 minutes it gets the same next cookie again, and later another one, unless that was used", max_length = 255)), security(("refreshToken" = [])), responses(
    (status = 200, description = "The session goes on", body = Refreshed, headers(("Set-Cookie" = String, description = "The refresh token, or its end"))),
    (status = 400, description = "`invalid_request`"),
    (status = 401, description = "`missing_refresh_token`, `invalid_refresh_token`, `session_not_found`, `session_revoked`, `refresh_token_reused`"),
    (status = 403, description = "`forbidden_origin`"),
    (status = 409, description = "`several_refresh_tokens`: the browser sent cookies of several sessions: log out, which ends all of them, and log in. `refresh_superseded`: this request was answered before, and the client has refreshed again since; or the key belongs to an earlier refresh. Nothing was changed: refresh again with a new key"),
    (status = 429, description = "`rate_limited`"),
    (status = 503, description = "`unavailable`"),
))]
pub async fn refresh(
    State(app): State<App>,
    caller: Caller,
    key: Result<Option<IdempotencyKey>, ApiError>,
    RefreshTokens(sent): RefreshTokens,
) -> Response {
    let result = async {
        let (old, key) = (choose(&app, &sent).await?, key?);
        rotate(&app, old, key.as_ref(), &caller, &sent).await
    };
    result.await.unwrap_or_else(|error: ApiError| {
        let has_ended = error.has_ended_session();
        let response = error.into_response();
        if has_ended { clear_cookies(&app, response, &sent) } else { response }
    })
}

/// The token that counts, among all that the browser sent.
async fn choose<'a>(app: &AppState, sent: &'a Presented) -> Result<&'a RefreshToken, ApiError> {
    match &sent.tokens()[..] {
        [] if sent.is_empty() => Err(ApiError::MissingRefreshToken),
        [] => Err(ApiError::InvalidRefreshToken),
        [first, others @ ..] => match app.families.choose(first, others).await? {
            Choice::Only(token) => Ok(token),
            Choice::Ambiguous => {
                warn!(tokens = others.len() + 1, "a browser sent refresh tokens of several sessions; none was traded");
                Err(ApiError::SeveralRefreshTokens)
            }
        },
    }
}

async fn rotate(
    app: &AppState,
    old: &RefreshToken,
    key: Option<&IdempotencyKey>,
    caller: &Caller,
    sent: &Presented,
) -> Result<Response, ApiError> {
    let (user_id, family) = (old.user_id, old.family);
    let from = Origin { address: caller.address, user_agent: &caller.user_agent };
    match app.families.rotate(old, key.map(|key| key.0.as_str()), from).await? {
        Rotation::Rotated(session) | Rotation::Retried(session) => session_response(app, &session, None, sent),
        Rotation::RolledForward(session) => {
            warn!(user.id = user_id, family.id = %family, "redis had lost a rotation; the session was rolled forward");
            session_response(app, &session, None, sent)
        }
        Rotation::TradedAnew(session) => {
            info!(user.id = user_id, family.id = %family, "a refresh came again late; its first successor is void");
            session_response(app, &session, None, sent)
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
