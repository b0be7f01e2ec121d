//! What only a logged-in caller gets.

use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;

use super::session_response::UserBody;
use crate::extract::Bearer;

#[derive(Serialize, ToSchema)]
pub struct Protected {
    message: &'static str,
    user: UserBody,
}

/// `GET /api/protected`: greets the caller. No I/O: the token says who they are.
#[utoipa::path(get, path = "/api/protected", tag = "Account", operation_id = "getProtected", summary = "Greet the caller", description = "An example of a protected call: says who the access token belongs to.", security(("accessToken" = [])), responses(
    (status = 200, description = "The caller", body = Protected),
    (status = 401, description = "`missing_token`, `invalid_token`, `token_expired`, `session_revoked`"),
    (status = 429, description = "`rate_limited`"),
    (status = 503, description = "`unavailable`"),
))]
pub async fn protected(Bearer(token): Bearer) -> Json<Protected> {
    let user = UserBody { id: token.user_id, username: token.username.to_string() };
    Json(Protected { message: "You are logged in", user })
}
