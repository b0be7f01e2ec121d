//! The access token of a request.

use axum::extract::FromRequestParts;
use gatefold_shared::jwt::AccessToken;
use http::{header, request::Parts};

use crate::{error::ApiError, state::App};

/// A caller with a valid access token.
pub struct Bearer(pub AccessToken);

impl FromRequestParts<App> for Bearer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let mut headers = parts.headers.get_all(header::AUTHORIZATION).iter();
        let Some(first) = headers.next() else { return Err(ApiError::MissingToken) };
        // Two credentials: which one would a proxy before us have checked?
        if headers.next().is_some() {
            return Err(ApiError::InvalidToken);
        }
        let text = first.to_str().map_err(|_| ApiError::InvalidToken)?;
        match text.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                let token = app.keys.load().verify(token.trim())?;
                app.revocations.check(token.user_id, token.family)?;
                Ok(Self(token))
            }
            _ => Err(ApiError::MissingToken),
        }
    }
}
