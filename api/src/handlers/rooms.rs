//! Rooms without a socket: who is there, and publishing.

use axum::extract::State;
use gatefold_shared::{
    portable_json,
    rooms::{self, Present, Publication, User},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::session_response::UserBody;
use crate::{
    error::ApiError,
    extract::{InRoom, Json},
    state::App,
};

#[derive(Serialize, ToSchema)]
pub struct Presence {
    #[schema(example = "lobby")]
    room: String,
    /// How many users are in the room.
    count: u64,
    /// They, or 1,000 of them.
    #[schema(max_items = 1000)]
    users: Vec<UserBody>,
}

/// `GET /api/rooms/{room}/presence`: who is in a room, wherever they are connected.
#[utoipa::path(get, path = "/api/rooms/{room}/presence", tag = "rooms", params(("room" = String, Path, description = "1 to 128 letters, digits, `_`, `.`, `:` or `-`")), security(("accessToken" = [])), responses(
    (status = 200, body = Presence),
    (status = 400, description = "`invalid_request`"),
    (status = 401, description = "`missing_token`, `invalid_token`, `token_expired`, `session_revoked`"),
    (status = 403, description = "`forbidden_room`"),
    (status = 429, description = "`rate_limited`"),
    (status = 503, description = "`unavailable`"),
))]
pub async fn presence(State(app): State<App>, caller: InRoom) -> Result<axum::Json<Presence>, ApiError> {
    let Present { count, users } = rooms::present(&app.redis.rooms(), &caller.room, app.redis.deadline()).await?;
    let users = users.into_iter().map(|user| UserBody { id: user.id, username: user.username.to_string() }).collect();
    Ok(axum::Json(Presence { room: caller.room.to_string(), count, users }))
}

#[derive(Deserialize, ToSchema)]
pub struct PublishRequest {
    /// Anything that all parsers can read, 32 levels deep at most; passed on as it is.
    #[schema(value_type = serde_json::Value, example = json!({ "text": "Hello" }))]
    data: Box<RawValue>,
}

#[derive(Serialize, ToSchema)]
pub struct Published {
    /// The message's id, which its receivers see too.
    #[schema(example = "1767268800000-0")]
    id: String,
}

/// `POST /api/rooms/{room}/messages`: publishes a message, as if over a socket.
#[utoipa::path(post, path = "/api/rooms/{room}/messages", tag = "rooms", params(("room" = String, Path, description = "1 to 128 letters, digits, `_`, `.`, `:` or `-`")), request_body = PublishRequest, security(("accessToken" = [])), responses(
    (status = 202, body = Published),
    (status = 400, description = "`invalid_request`, `invalid_data`"),
    (status = 401, description = "`missing_token`, `invalid_token`, `token_expired`, `session_revoked`"),
    (status = 403, description = "`forbidden_room`, `forbidden_origin`"),
    (status = 429, description = "`rate_limited`"),
    (status = 503, description = "`unavailable`: it may have been published all the same"),
))]
pub async fn publish(
    State(app): State<App>,
    InRoom { token, room }: InRoom,
    Json(request): Json<PublishRequest>,
) -> Result<(StatusCode, axum::Json<Published>), ApiError> {
    portable_json::check(&request.data)?;
    let budgets = &app.publish.budgets;
    budgets.take(app.publish.messages, token.user_id, 1).map_err(ApiError::OverBudget)?;
    budgets.take(app.publish.bytes, token.user_id, request.data.get().len()).map_err(ApiError::OverBudget)?;
    let author = User { id: token.user_id, username: token.username };
    let (rooms, pace) = (app.redis.rooms(), app.publish.of_a_room);
    match rooms::publish(&rooms, &room, &author, &request.data, pace, rooms.deadline()).await? {
        Publication::Published(id) => Ok((StatusCode::ACCEPTED, axum::Json(Published { id }))),
        Publication::TooMany(wait) => Err(ApiError::OverBudget(wait)),
    }
}
