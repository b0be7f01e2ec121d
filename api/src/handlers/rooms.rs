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
    #[schema(example = "lobby", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_.:-]+$")]
    room: String,
    /// How many users are in the room.
    count: u64,
    /// The users, at most 1,000 of them.
    #[schema(max_items = 1000)]
    users: Vec<UserBody>,
}

/// `GET /api/rooms/{room}/presence`: who is in a room, wherever they are connected.
#[utoipa::path(get, path = "/api/rooms/{room}/presence", tag = "Rooms", operation_id = "getPresence", summary = "Show who is in a room", description = "All users with a socket in the room.", params(("room" = String, Path, description = "The name of the room", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_.:-]+$", example = "lobby")), security(("accessToken" = [])), responses(
    (status = 200, description = "The users in the room", body = Presence),
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
    /// Any JSON that all parsers can read, at most 32 levels deep; it is passed on unchanged.
    #[schema(value_type = serde_json::Value, example = json!({ "text": "Hello" }))]
    data: Box<RawValue>,
}

#[derive(Serialize, ToSchema)]
pub struct Published {
    /// The id of the message, which its receivers see too.
    #[schema(example = "1767268800000-0")]
    id: String,
}

/// `POST /api/rooms/{room}/messages`: publishes a message, as if over a socket.
#[utoipa::path(post, path = "/api/rooms/{room}/messages", tag = "Rooms", operation_id = "publishMessage", summary = "Publish a message", description = "Publishes a message in a room, as a socket does, without joining it.", params(("room" = String, Path, description = "The name of the room", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_.:-]+$", example = "lobby")), request_body = PublishRequest, security(("accessToken" = [])), responses(
    (status = 202, description = "The message was published", body = Published),
    (status = 400, description = "`invalid_request`, `invalid_data`"),
    (status = 401, description = "`missing_token`, `invalid_token`, `token_expired`, `session_revoked`"),
    (status = 403, description = "`forbidden_room`, `forbidden_origin`"),
    (status = 429, description = "`rate_limited`"),
    (status = 503, description = "`unavailable`: the message may have been published nevertheless"),
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
