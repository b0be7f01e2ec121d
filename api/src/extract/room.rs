//! The room of a request.

use axum::{
    RequestPartsExt,
    extract::{FromRequestParts, Path},
};
use gatefold_shared::{
    jwt::AccessToken,
    rooms::{self, RoomName},
};
use http::request::Parts;

use super::Bearer;
use crate::{error::ApiError, state::App};

/// A caller who may enter the room of the path.
pub struct InRoom {
    pub token: AccessToken,
    pub room: RoomName,
}

impl FromRequestParts<App> for InRoom {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let Bearer(token) = Bearer::from_request_parts(parts, app).await?;
        let name: Option<Path<String>> = parts.extract().await.ok();
        let room = name.and_then(|Path(name)| RoomName::parse(&name)).ok_or_else(|| {
            ApiError::InvalidRequest("`room` must have 1 to 128 letters, digits, `_`, `.`, `:` or `-`".to_owned())
        })?;
        if rooms::may_join(&app.redis.rooms(), &token, &room).await? {
            Ok(Self { token, room })
        } else {
            Err(ApiError::ForbiddenRoom)
        }
    }
}
