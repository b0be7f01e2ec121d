//! Logging out.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use gatefold_shared::revocation::{Ended, Why};
use serde::Serialize;
use tracing::info;
use utoipa::ToSchema;

use super::session_response::set_cookie;
use crate::{
    audit::{Event, Kind},
    error::ApiError,
    extract::{Caller, RefreshCookie},
    state::App,
};

#[derive(Serialize, ToSchema)]
pub struct Message {
    message: &'static str,
}

/// `POST /api/logout`: ends the session of the cookie, if there is one, and forgets the cookie. Whoever is logged out
/// already is told the same. During an outage nothing is claimed: 503, and the cookie stays.
#[utoipa::path(post, path = "/api/logout", tag = "sessions", security(("refreshToken" = [])), responses(
    (status = 200, body = Message, headers(("Set-Cookie" = String, description = "The refresh token, or its end"))),
    (status = 403, description = "`forbidden_origin`"),
    (status = 429, description = "`rate_limited`"),
    (status = 503, description = "`unavailable`"),
))]
pub async fn logout(
    State(app): State<App>,
    caller: Caller,
    cookie: Result<RefreshCookie, ApiError>,
) -> Result<Response, ApiError> {
    if let Ok(RefreshCookie(token)) = cookie {
        if app.families.end(&token, Why::Logout).await? == Ended::Now {
            let event = Event::now(Kind::LoggedOut).of_user(token.user_id).of_session(token.family);
            app.audit.record(caller.did(event));
        }
        info!(user.id = token.user_id, family.id = %token.family, "logged out");
    }
    let mut response = Json(Message { message: "Logged out" }).into_response();
    set_cookie(&mut response, app.cookies.clear());
    Ok(response)
}
