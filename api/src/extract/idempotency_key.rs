//! `Idempotency-Key`: how a client says that it asks again because it never got the answer
//! (draft-ietf-httpapi-idempotency-key-header).

use axum::extract::OptionalFromRequestParts;
use http::request::Parts;

use crate::error::ApiError;

/// A key of 1 to 255 visible ASCII characters.
pub struct IdempotencyKey(pub String);

impl<S: Sync> OptionalFromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, ApiError> {
        let mut headers = parts.headers.get_all("idempotency-key").iter();
        let Some(key) = headers.next() else { return Ok(None) };
        let is_visible = |key: &&str| (1..=255).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
        match key.to_str().ok().filter(is_visible) {
            Some(key) if headers.next().is_none() => Ok(Some(Self(key.to_owned()))),
            _ => Err(ApiError::InvalidRequest(
                "`Idempotency-Key` must be one value of 1 to 255 visible ASCII characters".into(),
            )),
        }
    }
}
