//! What only a logged-in caller gets.

use axum::Json;
use serde::Serialize;

use super::session_response::UserBody;
use crate::extract::Bearer;

#[derive(Serialize)]
pub struct Protected {
    message: &'static str,
    user: UserBody,
}

/// `GET /api/protected`: greets the caller. No I/O: the token says who they are.
pub async fn protected(Bearer(token): Bearer) -> Json<Protected> {
    let user = UserBody { id: token.user_id, username: token.username.to_string() };
    Json(Protected { message: "You are logged in", user })
}
